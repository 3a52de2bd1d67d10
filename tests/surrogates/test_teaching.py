"""Few labels carried further: fresh networks, whom to trust about them, and how sure to be then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from nasrlm.metrics import interval_coverage
from search_spaces.base import Architecture, SearchSpace
from search_spaces.errors import TrainingError, UsageError
from search_spaces.networks import Networks, sample_networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, CalibrationConfig, DecodingConfig
from surrogates.rlm.calibration import level_and_slope
from surrogates.rlm.checkpointing import STATE_FILE
from surrogates.rlm.distillation import TeachingConfig
from surrogates.rlm.few_shot import FineTunedRLM
from surrogates.rlm.lines import EncodedLines, LineReader
from surrogates.rlm.scales import Scale
from surrogates.rlm.starting import StartConfig
from surrogates.rlm.trust import OutOfFold
from tests.surrogates.started import QUICK, SPACE, TINY, networks, priced_blocks


def test_a_pool_carries_few_labels_further(start: Path, tmp_path: Path) -> None:
    """The label is made of what the checkpoint can tell of a network; the labels themselves are not learned here."""
    few, test = networks(12, 1), networks(60, 2)

    def truth(some: Networks) -> np.ndarray:
        found = free_targets(some)
        return -(found["live_log_macs"] + found["log_params"]).to_numpy()  # whatever the start says, it says otherwise

    labels = pd.DataFrame({"score": truth(few)})
    reached, still = {}, replace(QUICK, epochs=1, learning_rate=1e-9)
    for pool in 0, 200:
        config, teaching = (
            StartConfig(str(start), dropout=0.0, like=""),
            TeachingConfig(pool, passes=20, pool_rate=1e-2),
        )
        rlm = FineTunedRLM(config, still, teaching=teaching).fit(few, labels, checkpoint=tmp_path / str(pool))
        twice = FineTunedRLM(config, still, DecodingConfig(readings=2), teaching=teaching).fit(few, labels)
        assert twice.predict(test).mean.shape == (60, 1)  # texts of a pool have one order
        assert rlm.metrics == ("score",) and rlm.training == still and rlm.history["steps"] == 1
        predicted = rlm.predict(test).mean[:, 0]
        reached[pool] = scipy.stats.spearmanr(predicted, truth(test)).statistic
        spread = rlm.learn_distance(few).distance(few)
        again = FineTunedRLM(config, still, teaching=teaching)  # as if it was killed
        again.fit(few, labels, checkpoint=tmp_path / str(pool))
        np.testing.assert_array_equal(again.predict(test).mean[:, 0], predicted)
        np.testing.assert_allclose(again.distance(few), spread)  # it knows what was measured, not the pool
        again.save_pretrained(tmp_path / str(pool))
        read = RLM.from_pretrained(tmp_path / str(pool))
        np.testing.assert_allclose(read.predict(test).mean[:, 0], predicted, rtol=1e-5)
        assert not [*(tmp_path / str(pool)).glob(STATE_FILE)]
    assert reached[0] < -0.5 and reached[200] > reached[0] + 0.6


def test_a_pool_that_knows_nothing_is_left_alone(start: Path) -> None:
    few, labels = networks(12, 1), pd.DataFrame({"score": np.ones(12)})  # no process orders equal labels
    weights = []
    for pool in 0, 50:
        rlm = FineTunedRLM(StartConfig(str(start), like=""), replace(QUICK, epochs=2), teaching=TeachingConfig(pool))
        weights.append(rlm.fit(few, labels).network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_further_fits_learn_of_the_same_pool(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, test, drawn = networks(16, 1), networks(30, 2), list[set[object]]()

    def noted(space: SearchSpace, count: int, *, seed: int, known: Sequence[Architecture]) -> Networks:
        drawn.append({space.canonical(arch) for arch in known})
        return sample_networks(space, count, seed=seed, known=known)

    monkeypatch.setattr("surrogates.rlm.few_shot.sample_networks", noted)
    labels, config, teaching = free_targets(few)[["live_depth"]], StartConfig(str(start)), TeachingConfig(40, passes=2)
    plain, calibrated = (
        FineTunedRLM(config, QUICK, teaching=teaching, calibration=CalibrationConfig(folds=folds)).fit(few, labels)
        for folds in (0, 3)
    )
    assert drawn == [{SPACE.canonical(arch) for arch in few.architectures}] * 2  # none that is set aside is in it
    np.testing.assert_array_equal(plain.predict(test).mean, calibrated.predict(test).mean)
    assert plain.spreads == (1.0,) != calibrated.spreads


def test_all_models_of_a_fit_read_a_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, training = networks(32, 0), replace(QUICK, epochs=1)
    model = replace(TINY, encoder="lines")
    RLM(model, training).fit(known, free_targets(known)[["log_params"]]).save_pretrained(tmp_path)
    read, encoded = list[str](), LineReader._encoded

    def noted(reader: LineReader, text: str) -> EncodedLines:
        read.append(text)
        return encoded(reader, text)

    monkeypatch.setattr(LineReader, "_encoded", noted)
    teaching, folds = TeachingConfig(20, trust_folds=2, calm=True), CalibrationConfig(folds=2)
    few = networks(16, 1)
    rlm = FineTunedRLM(StartConfig(str(tmp_path)), training, teaching=teaching, calibration=folds)
    rlm.fit(few, free_targets(few)[["live_depth"]])
    assert len(read) == len({*read}) > 30


def test_labels_set_aside_say_whom_to_follow(start: Path) -> None:
    """A label that follows a count, and one that next to nothing is known of; models that do not learn know neither."""
    few, test = networks(80, 1), networks(60, 2)
    labels = pd.DataFrame({"count": free_targets(few)["live_depth"], "rare": [1.0, *[np.nan] * 79]})
    still = replace(QUICK, epochs=1, learning_rate=1e-9)
    teaching = TeachingConfig(200, trust_folds=4, calm=True, passes=20)
    rlm = FineTunedRLM(StartConfig(str(start), dropout=0.0), still, teaching=teaching).fit(few, labels)
    assert rlm._out_of_fold is not None
    trust = rlm._out_of_fold.shares
    assert list(trust) == ["count", "rare"] and len(trust) == 3
    np.testing.assert_allclose(trust.sum(), 1)
    assert trust["count"].iloc[-1] > 0.9
    np.testing.assert_allclose(trust["rare"], 1 / 3)
    assert 0.1 < rlm.spreads[0] < 10 and rlm.spreads[0] != 1 and rlm.spreads[1] == 1  # one label does not tell
    predicted, truth = rlm.predict(test).frame()["count"], free_targets(test)["live_depth"]
    plain = FineTunedRLM(StartConfig(str(start), dropout=0.0), still).fit(few, labels).predict(test).frame()["count"]
    assert scipy.stats.spearmanr(predicted, truth).statistic > scipy.stats.spearmanr(plain, truth).statistic + 0.1
    assert rlm.training == still


def test_processes_read_genes_where_they_may(start: Path) -> None:
    """A label of what is on each edge, which counts do not tell; the model does not learn it."""
    few, test = networks(80, 1), networks(60, 2)
    worth = np.random.default_rng(2).normal(size=(6, 5))

    def truth(some: Networks) -> np.ndarray:
        genes = np.array([arch.genome for arch in some.architectures])
        return np.sum([worth[edge][genes[:, edge]] for edge in range(6)], axis=0)

    labels, still = pd.DataFrame({"score": truth(few)}), replace(QUICK, epochs=1, learning_rate=1e-9)
    reached = {}
    for genes in False, True:
        teaching = TeachingConfig(200, trust_folds=4, genes=genes, passes=20, pool_rate=1e-2)
        rlm = FineTunedRLM(StartConfig(str(start), dropout=0.0), still, teaching=teaching).fit(few, labels)
        assert rlm._out_of_fold is not None
        said = rlm._out_of_fold.predicted[-1, :, 0]
        reached[genes] = [
            float(scipy.stats.spearmanr(*pair).statistic)
            for pair in ((said, truth(few)), (rlm.predict(test).mean[:, 0], truth(test)))
        ]
    assert reached[True][0] > 0.9 > reached[False][0] + 0.2 and reached[True][1] > reached[False][1]


def test_processes_read_operations_at_their_shapes(start: Path) -> None:
    """A label that adds up over blocks and their stages, which counts do not tell apart."""
    few, truth = priced_blocks(80)
    labels, still = pd.DataFrame({"score": truth}), replace(QUICK, epochs=1, learning_rate=1e-9)
    said = {}
    for shaped in False, True:
        teaching = TeachingConfig(10, trust_folds=4, shaped=shaped, least_noise=0.001, passes=1)
        rlm = FineTunedRLM(StartConfig(str(start), dropout=0.0), still, teaching=teaching).fit(few, labels)
        assert rlm._out_of_fold is not None
        said[shaped] = float(scipy.stats.spearmanr(rlm._out_of_fold.predicted[-1, :, 0], truth).statistic)
    assert said[True] > 0.6 > said[False] + 0.15, said
    with pytest.raises(UsageError, match=r"least_noise is 0\.5; the most noise considered is 0\.4"):
        TeachingConfig(least_noise=0.5)


def test_processes_are_judged_by_what_they_say_from_all_other_labels(start: Path) -> None:
    """Half of the labels are too few to know the prices of all blocks; a process learns from all of them in the end."""
    few, truth = priced_blocks(80)
    labels, still = pd.DataFrame({"score": truth}), replace(QUICK, epochs=1, learning_rate=1e-9)
    taus = {}
    for singly in False, True:
        teaching = TeachingConfig(
            10, trust_folds=2, shaped=True, least_noise=0.001, passes=1, leave_one_out=singly, stacked=True
        )
        rlm = FineTunedRLM(StartConfig(str(start), dropout=0.0), still, teaching=teaching).fit(few, labels)
        assert rlm._out_of_fold is not None
        taus[singly] = rlm._out_of_fold.taus[:, 0]
    assert taus[False][0] == taus[True][0]  # a model is asked as before
    assert taus[True][1] > taus[False][1] + 0.1
    with pytest.raises(UsageError, match="leave_one_out is True"):
        TeachingConfig(leave_one_out=True)


@pytest.mark.parametrize(("shrink", "other"), [(0.01, 1.0), (1.0, 0.01)])
def test_labels_set_aside_say_how_much_of_a_checkpoint_to_keep(
    start: Path, tmp_path: Path, shrink: float, other: float
) -> None:
    """A label that the checkpoint knows, under another name; it is not learned here."""
    few, test = networks(60, 1), networks(60, 2)
    labels = pd.DataFrame({"cost": free_targets(few)["live_log_macs"]})
    still = replace(QUICK, epochs=1, learning_rate=1e-9)
    config = StartConfig(str(start), dropout=0.0, shrink=shrink, like="live_log_macs")
    teaching = TeachingConfig(20, trust_folds=3, shrinks=(other,), passes=1, pool_rate=1e-9)
    rlm = FineTunedRLM(config, still, teaching=teaching).fit(few, labels, checkpoint=tmp_path)
    assert rlm.start == config and rlm._out_of_fold is not None
    assert rlm._out_of_fold.taus[0, 0] > 0.3
    kept, lost = (
        FineTunedRLM(replace(config, shrink=shrunk), still).fit(few, labels).predict(test).mean[:, 0]
        for shrunk in (1.0, 0.01)
    )
    likeness = [scipy.stats.kendalltau(rlm.predict(test).mean[:, 0], view).statistic for view in (kept, lost)]
    assert likeness[0] > 0.9 > likeness[1] + 0.3
    again = FineTunedRLM(config, still, teaching=teaching).fit(few, labels, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.predict(test).mean, rlm.predict(test).mean)


def test_labels_set_aside_for_trust_say_how_wide_intervals_are(start: Path) -> None:
    """Labels that follow nothing: a model that learned what teachers made of them is far too sure of new ones."""
    few, test = networks(96, 1), networks(300, 2)
    values = np.random.default_rng(5).normal(size=396)
    labels, truth = pd.DataFrame({"noise": values[:96]}), values[96:]
    training, teaching = replace(QUICK, epochs=30), TeachingConfig(300, trust_folds=4, passes=20)
    rlm = FineTunedRLM(StartConfig(str(start)), training, teaching=teaching).fit(few, labels)

    def covered() -> float:
        return interval_coverage(truth, rlm.predict(test).quantiles[:, 0], rlm.decoding.levels)[0.8]

    told, mean = covered(), rlm.predict(test).mean
    rlm.spreads = (1.0,)
    assert covered() < 0.5 and 0.72 < told < 0.94
    np.testing.assert_array_equal(rlm.predict(test).mean, mean)
    rlm.fit(few, labels, validation=(test, pd.DataFrame({"noise": truth})))  # these know better
    assert covered() == pytest.approx(0.8, abs=0.01)


def test_values_lie_as_far_apart_as_the_labels_tell(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is ranked and smeared draws numbers together; they are brought apart, in the same order."""
    few, test = networks(96, 1), networks(300, 2)
    labels, truth = (free_targets(some)[["live_log_macs"]].set_axis(["cost"], axis=1) for some in (few, test))
    config, values = StartConfig(str(start), like=""), truth["cost"].to_numpy()
    teaching = TeachingConfig(300, trust_folds=4, passes=20, pool_smoothing=0.8)
    off, order = [], []
    for learn in lambda *_: (0.0, 1.0), level_and_slope:
        monkeypatch.setattr("surrogates.rlm.few_shot.level_and_slope", learn)
        rlm = FineTunedRLM(config, replace(QUICK, epochs=30), teaching=teaching).fit(few, labels)
        said = rlm.predict(test).mean[:, 0]
        off.append(np.abs(said - values).mean())
        order.append(scipy.stats.kendalltau(said, values).statistic)
    assert off[1] < 0.97 * off[0] and order[1] == pytest.approx(order[0], abs=1e-3)


def test_numbers_are_written_on_the_scale_of_the_labels(start: Path) -> None:
    """Of a metric with few labels, on that of labels and pseudo-labels."""
    few = networks(64, 1)
    values = free_targets(few)[["live_depth", "live_log_macs"]].set_axis(["many", "rare"], axis=1)
    values.loc[10:, "rare"] = np.nan
    teaching = TeachingConfig(60, trust_folds=4, passes=1)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, epochs=2), teaching=teaching).fit(few, values)
    many, rare = rlm.scales
    known = values["many"].to_numpy()
    np.testing.assert_allclose(many.forward(known), Scale.fit("quantile", known, digits=3).forward(known))
    assert many.read and not rare.read and len(rare.values) > 10


def test_what_was_moved_is_written_as_before(start: Path, tmp_path: Path) -> None:
    """Values given to a fitted model, and labels learned on its scale, are numbers of the scale that it learned."""
    few, test = networks(64, 1), networks(20, 2)
    values = free_targets(few)[["live_depth", "live_log_macs"]].set_axis(["one", "other"], axis=1)
    teaching = TeachingConfig(60, trust_folds=4, passes=2)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, epochs=3), teaching=teaching).fit(few, values)
    rlm.save_pretrained(tmp_path)
    moved, before = RLM.from_pretrained(tmp_path), RLM.from_pretrained(tmp_path)
    before.scales = (before.scales[0].learned, before.scales[1])
    assert moved.scales == rlm.scales != before.scales
    said = [model.predict(test, ["other"], given=values[["one"]][:20]).mean for model in (moved, before)]
    np.testing.assert_array_equal(*said)
    moved.finetune(few, values[["one"]], training=replace(QUICK, epochs=1), refit_scales=False)
    assert moved.scales == before.scales  # what is not learned anew stays as it was


def test_a_pool_that_cannot_be_learned_is_refused_before_all_else(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = networks(20, 1)
    training, teaching = replace(QUICK, metrics_at_once=1, ranking=0.0), TeachingConfig(60, trust_folds=4)
    monkeypatch.setattr("surrogates.rlm.few_shot.sample_networks", None)
    with pytest.raises(UsageError, match="metrics_at_once"):
        FineTunedRLM(StartConfig(str(start)), training, teaching=teaching).fit(few, free_targets(few)[["live_depth"]])


def test_each_metric_is_as_sure_as_its_own_labels_were(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that are no strings, one with gaps; the spread of each is what its own columns say."""
    few = networks(64, 1)
    values = pd.DataFrame({0: np.random.default_rng(5).normal(size=64), 1: free_targets(few)["live_depth"]})
    values.loc[::5, 0] = np.nan
    asked, spread = list[tuple[OutOfFold, tuple[np.ndarray, ...], float]](), OutOfFold.spread

    def noted(unseen: OutOfFold, name: str, scale: Scale, *said: np.ndarray, unlearned: float, level: float) -> float:
        asked.append((unseen, said, unlearned))
        return spread(unseen, name, scale, *said, unlearned=unlearned, level=level)

    monkeypatch.setattr(OutOfFold, "spread", noted)
    teaching = TeachingConfig(60, trust_folds=2, passes=4)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, epochs=20), teaching=teaching).fit(few, values)
    assert rlm.metrics == ("0", "1") and all(0.1 < found < 30 and found != 1 for found in rlm.spreads)
    unseen = asked[0][0]
    assert np.isfinite(unseen.predicted).all() and unseen.predicted.shape == (2, 64, 2)
    assert scipy.stats.kendalltau(unseen.predicted[-1, :, 1], values[1]).statistic > 0.5
    functions = [SPACE.canonical(arch) for arch in few.architectures]
    assert unseen.alone.tolist() == [functions.count(function) == 1 for function in functions]
    for index, (name, scale) in enumerate(zip(rlm.metrics, rlm.scales, strict=True)):
        rows = np.flatnonzero(values[index].notna())
        alone = OutOfFold(
            unseen.labels[[name]].iloc[rows].reset_index(drop=True),
            unseen.part[rows],
            unseen.predicted[:, rows][:, :, [index]],
            unseen.alike[rows],
            unseen.alone[rows],
        )
        (own, fresh, echo), unlearned = asked[index][1:]
        assert own.shape == (64, 3) and fresh.shape == (60, 3) and 0.001 < echo.std() < 0.5
        again = spread(alone, name, scale, own[rows], fresh, echo, unlearned=unlearned, level=0.8)
        np.testing.assert_allclose(again, rlm.spreads[index])
    monkeypatch.undo()
    for other in CalibrationConfig(level=0.5), CalibrationConfig(folds=2):  # further fits know better
        rlm.calibration, before = other, rlm.spreads
        assert all(0.1 < found < 30 for found in rlm.fit(few, values).spreads) and rlm.spreads != before


def test_labels_of_known_networks_trust_nobody(start: Path) -> None:
    twins = Networks(SPACE, [networks(1, 1).architectures[0]] * 20)
    labels = pd.DataFrame({"score": np.arange(20.0)})
    config, teaching = StartConfig(str(start)), TeachingConfig(30, trust_folds=4, calm=True, passes=1)
    rlm = FineTunedRLM(config, replace(QUICK, epochs=1), teaching=teaching).fit(twins, labels)
    assert rlm._out_of_fold is None and rlm.metrics == ("score",) and rlm.spreads == (1.0,)


def test_who_is_followed_alone_is_learned_from(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models that were trained differently on noise, and processes, see a network each in their own way."""
    few, test = networks(64, 1), networks(60, 2)
    labels, config = pd.DataFrame({"noise": np.random.default_rng(4).normal(size=64)}), StartConfig(str(start))
    training = replace(QUICK, epochs=20, ranking=30.0)
    views = [
        FineTunedRLM(config, replace(training, ranking=ranking)).fit(few, labels).predict(test).mean[:, 0]
        for ranking in (30.0, 0.0)
    ]
    teaching = TeachingConfig(400, trust_folds=2, calm=True, passes=20, pool_rate=1e-2)
    for teacher in 0, 1:
        monkeypatch.setattr("surrogates.rlm.trust.shares", lambda taus, chosen=teacher: np.eye(len(taus))[[chosen]].T)
        rlm = FineTunedRLM(config, training, teaching=teaching).fit(few, labels)
        likeness = [scipy.stats.spearmanr(rlm.predict(test).mean[:, 0], view).statistic for view in views]
        assert np.argmax(likeness) == teacher


def test_stacked_teachers_are_followed_in_the_shares_that_order_best(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of layers follows from counts; a model that learns nothing has only noise to add."""
    few, test = networks(60, 1), networks(60, 2)
    labels, truth = (free_targets(nets)[["live_depth"]].set_axis(["hops"], axis=1) for nets in (few, test))
    still = replace(QUICK, epochs=1, learning_rate=1e-9)
    teaching = TeachingConfig(300, trust_folds=3, stacked=True, passes=30, pool_rate=1e-2)
    found = {}
    for alone in False, True:
        if alone:
            monkeypatch.setattr(OutOfFold, "_best_shares", lambda self, column: np.array([1.0, 0.0]))
        rlm = FineTunedRLM(StartConfig(str(start), like=""), still, teaching=teaching).fit(few, labels)
        assert rlm._out_of_fold is not None
        found[alone] = scipy.stats.kendalltau(rlm.predict(test).mean[:, 0], truth["hops"]).statistic
        assert alone or rlm._out_of_fold.shares["hops"][1] >= 0.8
    assert found[False] > 0.6 > found[True]


def test_what_a_pool_asks_for(start: Path) -> None:
    few, labels = networks(12, 1), pd.DataFrame({"score": np.arange(12.0)})
    with pytest.raises(UsageError, match="give Networks"):
        FineTunedRLM(StartConfig(str(start)), QUICK, teaching=TeachingConfig(10)).fit(list(few), labels)
    for name, wrong in ("pool", -1), ("passes", 0), ("trust_folds", 1), ("trust_folds", -2), ("trust_epochs", 0.0):
        with pytest.raises(UsageError, match=f"{name} (is )?{wrong}"):
            TeachingConfig(**{name: wrong})  # type: ignore[arg-type]
    for folds, shrinks in (0, (0.5,)), (2, (0.0,)), (2, (0.5, 1.5)):
        with pytest.raises(UsageError, match="shrinks is"):
            TeachingConfig(trust_folds=folds, shrinks=shrinks)
    with pytest.raises(UsageError, match="stacked is True"):
        TeachingConfig(stacked=True)
    teaching = TeachingConfig(20, pool_rate=1e30)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, clip=1e30), teaching=teaching)
    with pytest.raises(TrainingError):
        rlm.fit(few, labels)
    assert rlm.training.learning_rate == QUICK.learning_rate  # a failed pool leaves the settings as they were
