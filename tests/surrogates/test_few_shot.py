"""Few labels on a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

import search_spaces
from nasrlm.bench.methods import find
from nasrlm.bench.pretrained import STEPS, finetuning_sizes
from nasrlm.metrics import interval_coverage
from search_spaces.base import Architecture, SearchSpace
from search_spaces.errors import CheckpointError, TrainingError, UnknownNameError, UsageError
from search_spaces.networks import Networks, sample_networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, CalibrationConfig, DecodingConfig, ModelConfig, TrainingConfig
from surrogates.rlm.checkpointing import STATE_FILE
from surrogates.rlm.distillation import TeachingConfig
from surrogates.rlm.few_shot import FAVOUR, FineTunedRLM, StartConfig
from surrogates.rlm.lines import EncodedLines, LineReader
from surrogates.rlm.scales import Scale
from surrogates.rlm.trust import OutOfFold

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
QUICK = TrainingConfig(epochs=12, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1)
SPACE = search_spaces.get("nasbench201")


def networks(count: int, seed: int) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(SPACE, [SPACE.sample(rng) for _ in range(count)])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows parameters and live MACs."""
    folder = tmp_path_factory.mktemp("start")
    known = networks(96, 0)
    rlm = RLM(TINY, QUICK).fit(known, free_targets(known)[["log_params", "live_log_macs"]])
    rlm.save_pretrained(folder)
    return folder


def test_weights_of_the_start_hold_unless_fit_is_given_others(start: Path) -> None:
    few, test = networks(16, 1), networks(30, 2)
    labels = pd.DataFrame({"up": np.arange(16.0), "down": -np.arange(16.0)})
    training = replace(QUICK, epochs=2)

    def predicted(weights: dict[str, float], given: dict[str, float] | None) -> np.ndarray:
        config = StartConfig(str(start), weights=weights)
        return FineTunedRLM(config, training).fit(few, labels, metric_weights=given).predict(test).mean

    heavy, plain = predicted({"up": 4.0}, None), predicted({}, None)
    np.testing.assert_array_equal(heavy, predicted({}, {"up": 4.0}))
    assert np.abs(heavy - plain).max() > 1e-3
    np.testing.assert_array_equal(predicted({"up": 4.0}, {"up": 1.0}), plain)
    with pytest.raises(UnknownNameError, match="sideways"):
        predicted({"sideways": 2.0}, None)


def test_fit_goes_on_from_the_checkpoint_and_forgets_its_metrics(start: Path) -> None:
    """A new metric begins as the known one whose embedding it got; with a random embedding it is another."""
    few, test = networks(16, 1), networks(30, 2)
    labels = pd.DataFrame({"score": np.arange(16.0)})
    training = replace(QUICK, epochs=1, learning_rate=1e-9)
    known = RLM.from_pretrained(start)
    encoded = known.encode(list(test))
    before = known.predict_encoded(encoded, ["live_log_macs"])["live_log_macs"].mean()
    apart = {}
    for like in "live_log_macs", "":
        rlm = FineTunedRLM(StartConfig(str(start), like=like), training).fit(few, labels)
        assert rlm.metrics == ("score",)
        apart[like] = np.abs(rlm.predict_encoded(encoded, ["score"])["score"].mean() - before).max()
    assert apart["live_log_macs"] < 1e-4 < apart[""]


def test_a_new_metric_starts_from_what_orders_its_labels_best(start: Path) -> None:
    few, test = networks(24, 1), networks(30, 2)
    known = RLM.from_pretrained(start)
    predicted = known.predict(few).frame()
    labels = pd.DataFrame({"a": predicted["live_log_macs"] ** 3, "b": predicted["log_params"]})
    labels.loc[::3, "a"] = np.nan
    training = replace(QUICK, epochs=1, learning_rate=1e-9)
    rlm = FineTunedRLM(StartConfig(str(start)), training).fit(few, labels)
    encoded = known.encode(list(test))
    for metric, like in {"a": "live_log_macs", "b": "log_params"}.items():
        before = known.predict_encoded(encoded, [like])[like].mean()
        assert np.abs(rlm.predict_encoded(encoded, [metric])[metric].mean() - before).max() < 1e-4


def test_a_start_can_be_named_by_metric(start: Path) -> None:
    few, still = networks(24, 1), replace(QUICK, epochs=1, learning_rate=1e-9)
    known = RLM.from_pretrained(start)
    rows = known.network.metric_embedding.weight.detach().numpy()
    labels = pd.DataFrame({"a": np.arange(24.0), "b": known.predict(few).frame()["log_params"]})
    rlm = FineTunedRLM(StartConfig(str(start), like={"a": "live_log_macs"}), still).fit(few, labels)
    begun = rlm.network.metric_embedding.weight.detach().numpy()
    np.testing.assert_allclose(begun, rows[::-1], atol=1e-4)  # the one that is named; what orders its labels best
    with pytest.raises(UnknownNameError, match="live_log_paths"):
        FineTunedRLM(StartConfig(str(start), like={"a": "live_log_paths"}), still).fit(few, labels)


def test_an_unfinished_fit_goes_on_from_its_own_start_only(start: Path, tmp_path: Path) -> None:
    """The state is kept until the result is saved, and is not taken for that of another start."""
    few, labels = networks(16, 1), pd.DataFrame({"score": np.arange(16.0)})
    training, state = replace(QUICK, epochs=4, checkpoint_minutes=0), tmp_path / "state" / "training.pt"

    def fitted(config: StartConfig) -> FineTunedRLM:
        return FineTunedRLM(config, training).fit(few, labels, checkpoint=state.parent)

    rlm = fitted(StartConfig(str(start)))
    assert state.exists()
    for other in ({"shrink": 0.5}, {"like": "log_params"}):
        with pytest.raises(CheckpointError, match=r"other settings, data or start \(start\)"):
            fitted(StartConfig(str(start), **other))  # type: ignore[arg-type]
    again = fitted(StartConfig(str(start)))
    np.testing.assert_array_equal(again.predict(few).mean, rlm.predict(few).mean)
    again.save_pretrained(tmp_path / "done")
    assert not state.exists()
    other_weights = RLM.from_pretrained(start)
    other_weights.finetune(few, labels, training=training, checkpoint=state.parent)
    with torch.no_grad():
        other_weights.network.metric_embedding.weight += 1
    with pytest.raises(CheckpointError, match="start"):
        other_weights.finetune(few, labels, training=training, checkpoint=state.parent)


def test_a_start_is_blended_of_the_name_and_of_what_orders_the_labels(start: Path) -> None:
    """The embedding after a fit that changes nothing, as a mix of those of the checkpoint."""
    few, still = networks(24, 1), replace(QUICK, epochs=1, learning_rate=1e-9)
    known = RLM.from_pretrained(start)
    predicted = known.predict(few).frame()
    labels = pd.DataFrame({"macs": predicted["live_log_macs"], "neither": np.random.default_rng(0).normal(size=24)})
    rows = known.network.metric_embedding.weight.detach().numpy()

    def shares(like: str, blend: float) -> np.ndarray:
        rlm = FineTunedRLM(StartConfig(str(start), like=like, blend=blend), still).fit(few, labels)
        found = rlm.network.metric_embedding.weight.detach().numpy()
        return np.linalg.lstsq(rows.T, found.T, rcond=None)[0].T  # (labels, metrics): parameters, MACs

    by_name, by_labels, both = shares("log_params", 0.0), shares("best", 20.0), shares("log_params", 20.0)
    np.testing.assert_allclose(by_name, [[1, 0], [1, 0]], atol=1e-3)
    np.testing.assert_allclose(by_labels.sum(axis=1), 1, atol=1e-3)
    assert by_labels[0, 1] > max(0.6, by_labels[1, 1]) and (by_labels > 0.05).all()
    ahead = 1 - scipy.stats.kendalltau(predicted["log_params"], predicted["live_log_macs"]).statistic - FAVOUR
    macs = 1 / (1 + np.exp(-20 * ahead))  # what the labels say of MACs: half of the start; the other half is the name
    np.testing.assert_allclose(both[0], [1 - macs / 2, macs / 2], atol=1e-3)
    labels = labels.rename(columns={"macs": "log_params", "neither": "live_log_macs"})  # known names go first
    by_name, both = shares("live_log_macs", 0.0), shares("live_log_macs", 20.0)
    np.testing.assert_allclose(by_name, [[1, 0], [0, 1]], atol=1e-3)
    np.testing.assert_allclose(both[0], [1 - macs / 2, macs / 2], atol=1e-3)
    with pytest.raises(UsageError, match="blend is -1"):
        StartConfig(str(start), blend=-1)
    with pytest.raises(UsageError, match="like ''"):
        StartConfig(str(start), like="", blend=1)


def test_every_part_of_the_labels_is_predicted_by_a_fit_from_the_checkpoint(start: Path) -> None:
    few, test = networks(24, 1), networks(30, 2)
    labels = pd.DataFrame({"score": np.random.default_rng(3).normal(size=24)})
    kinds = {"plain": None, "calibrated": CalibrationConfig(folds=2)}
    fitted = {
        name: FineTunedRLM(StartConfig(str(start)), replace(QUICK, orders=2), calibration=calibration).fit(few, labels)
        for name, calibration in kinds.items()
    }
    assert fitted["plain"].spreads == (1.0,) and fitted["calibrated"].spreads[0] > 1.05  # nothing to learn in noise
    plain, calibrated = (fitted[name].predict(test) for name in kinds)
    np.testing.assert_array_equal(plain.mean, calibrated.mean)
    assert (calibrated.std > plain.std).mean() > 0.9


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
    trust = rlm._trust
    assert trust is not None and list(trust) == ["count", "rare"] and len(trust) == 3
    np.testing.assert_allclose(trust.sum(), 1)
    assert trust["count"].iloc[-1] > 0.9
    np.testing.assert_allclose(trust["rare"], 1 / 3)
    assert 0.1 < rlm.spreads[0] < 10 and rlm.spreads[0] != 1 and rlm.spreads[1] == 1  # one label does not tell
    predicted, truth = rlm.predict(test).frame()["count"], free_targets(test)["live_depth"]
    plain = FineTunedRLM(StartConfig(str(start), dropout=0.0), still).fit(few, labels).predict(test).frame()["count"]
    assert scipy.stats.spearmanr(predicted, truth).statistic > scipy.stats.spearmanr(plain, truth).statistic + 0.1
    assert rlm.training == still


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
    assert rlm.fit(few, labels, validation=(test, pd.DataFrame({"noise": truth}))).spreads == (1.0,)


def test_each_metric_is_as_sure_as_its_own_labels_were(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that are no strings, one with gaps; the spread of each is what its own columns say."""
    few = networks(64, 1)
    values = pd.DataFrame({0: np.random.default_rng(5).normal(size=64), 1: free_targets(few)["live_depth"]})
    values.loc[::5, 0] = np.nan
    asked, spread = list[tuple[OutOfFold, np.ndarray, np.ndarray]](), OutOfFold.spread

    def noted(unseen: OutOfFold, name: str, scale: Scale, own: np.ndarray, fresh: np.ndarray, level: float) -> float:
        asked.append((unseen, own, fresh))
        return spread(unseen, name, scale, own, fresh, level)

    monkeypatch.setattr(OutOfFold, "spread", noted)
    teaching = TeachingConfig(60, trust_folds=2, passes=4)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, epochs=20), teaching=teaching).fit(few, values)
    assert rlm.metrics == ("0", "1") and all(0.1 < found < 30 and found != 1 for found in rlm.spreads)
    unseen = asked[0][0]
    assert np.isfinite(unseen.predicted).all() and unseen.predicted.shape == (2, 64, 2)
    assert scipy.stats.kendalltau(unseen.predicted[-1, :, 1], values[1]).statistic > 0.5
    lowest, highest = unseen.ends
    assert (lowest < highest).mean() > 0.9
    for index, (name, scale) in enumerate(zip(rlm.metrics, rlm.scales, strict=True)):
        rows = np.flatnonzero(values[index].notna())
        alone = OutOfFold(
            unseen.labels[[name]].iloc[rows].reset_index(drop=True),
            unseen.part[rows],
            unseen.predicted[:, rows][:, :, [index]],
            unseen.ends[:, rows][:, :, [index]],
        )
        _, own, fresh = asked[index]
        assert own.shape == (64,) and fresh.shape == (60, 3)
        np.testing.assert_allclose(spread(alone, name, scale, own[rows], fresh, 0.8), rlm.spreads[index])
    monkeypatch.undo()
    for other in CalibrationConfig(level=0.5), CalibrationConfig(folds=2):  # further fits know better
        rlm.calibration, before = other, rlm.spreads
        assert all(0.1 < found < 30 for found in rlm.fit(few, values).spreads) and rlm.spreads != before


def test_labels_of_known_networks_trust_nobody(start: Path) -> None:
    twins = Networks(SPACE, [networks(1, 1).architectures[0]] * 20)
    labels = pd.DataFrame({"score": np.arange(20.0)})
    config, teaching = StartConfig(str(start)), TeachingConfig(30, trust_folds=4, calm=True, passes=1)
    rlm = FineTunedRLM(config, replace(QUICK, epochs=1), teaching=teaching).fit(twins, labels)
    assert rlm._trust is None and rlm.metrics == ("score",) and rlm.spreads == (1.0,)


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


def test_what_a_pool_asks_for(start: Path) -> None:
    few, labels = networks(12, 1), pd.DataFrame({"score": np.arange(12.0)})
    with pytest.raises(UsageError, match="give Networks"):
        FineTunedRLM(StartConfig(str(start)), QUICK, teaching=TeachingConfig(10)).fit(list(few), labels)
    for name, wrong in ("pool", -1), ("passes", 0), ("trust_folds", 1), ("trust_folds", -2), ("trust_epochs", 0.0):
        with pytest.raises(UsageError, match=f"{name} (is )?{wrong}"):
            TeachingConfig(**{name: wrong})  # type: ignore[arg-type]
    teaching = TeachingConfig(20, pool_rate=1e30)
    rlm = FineTunedRLM(StartConfig(str(start)), replace(QUICK, clip=1e30), teaching=teaching)
    with pytest.raises(TrainingError):
        rlm.fit(few, labels)
    assert rlm.training.learning_rate == QUICK.learning_rate  # a failed pool leaves the settings as they were


def test_frozen_modules_stay_and_a_second_fit_begins_anew(start: Path, tmp_path: Path) -> None:
    few = networks(16, 1)
    labels = pd.DataFrame({"score": np.arange(16.0)})
    rlm = FineTunedRLM(StartConfig(str(start), freeze=("encoder",), dropout=0.2), replace(QUICK, epochs=4))
    once = {name: tensor.clone() for name, tensor in rlm.fit(few, labels).network.state_dict().items()}
    before = RLM.from_pretrained(start).network.state_dict()
    for name, tensor in once.items():
        if name.startswith("encoder"):
            assert torch.equal(tensor, before[name])
    assert not torch.equal(once["output.weight"], before["output.weight"])
    for name, tensor in rlm.fit(few, labels).network.state_dict().items():
        assert torch.equal(tensor, once[name])
    rlm.save_pretrained(tmp_path)
    read = RLM.from_pretrained(tmp_path)
    assert read.model.dropout == 0.2
    np.testing.assert_array_equal(read.predict(few).mean, rlm.predict(few).mean)


def test_an_anchor_takes_weights_back_to_where_training_began(start: Path) -> None:
    """Worth as many labels as there are: the weights lie half-way, with none where training left them."""
    few, labels = networks(16, 1), pd.DataFrame({"score": np.arange(16.0)})
    begin, end, between = (
        FineTunedRLM(StartConfig(str(start), dropout=0.0), replace(QUICK, epochs=epochs, anchor=anchor))
        .fit(few, labels)
        .network.state_dict()
        for epochs, anchor in ((12, 1e9), (12, 0.0), (12, 16.0))
    )
    untouched = RLM.from_pretrained(start).network.state_dict()
    for name, weight in between.items():
        torch.testing.assert_close(weight, (begin[name] + end[name]) / 2, rtol=1e-4, atol=1e-6)
        if name != "metric_embedding.weight":
            torch.testing.assert_close(begin[name], untouched[name], rtol=1e-4, atol=1e-6)
    assert any((end[name] - begin[name]).abs().max() > 1e-3 for name in end)


def test_what_is_frozen_is_not_shrunk(start: Path) -> None:
    before = RLM.from_pretrained(start).network.state_dict()
    still = replace(QUICK, epochs=1, learning_rate=1e-9, weight_decay=0.0)
    config = StartConfig(str(start), shrink=0.5, freeze=("encoder",))
    rlm = FineTunedRLM(config, still).fit(networks(16, 1), pd.DataFrame({"score": np.arange(16.0)}))
    after = rlm.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("encoder."))
    halved = [name for name in before if name.startswith("decoder") and before[name].dim() == 2]
    assert halved
    for name in halved:
        torch.testing.assert_close(after[name], before[name] / 2, atol=1e-4, rtol=0)


def test_a_checkpoint_is_shrunk_before_the_labels(start: Path) -> None:
    """Matrices, not embeddings; nothing else happens in a fit that does not move."""
    few, labels = networks(16, 1), pd.DataFrame({"score": np.arange(16.0)})
    still = replace(QUICK, epochs=1, learning_rate=1e-9)
    whole, half = (
        FineTunedRLM(StartConfig(str(start), shrink=factor), still).fit(few, labels).network for factor in (1.0, 0.5)
    )
    modules = dict(half.named_modules())
    for name, module in whole.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            factor = 0.5 if isinstance(module, torch.nn.Linear) else 1.0
            other = modules[name].get_parameter("weight")
            torch.testing.assert_close(other, factor * module.weight, rtol=1e-3, atol=1e-6)


def test_what_cannot_be_started_from_is_refused(start: Path) -> None:
    with pytest.raises(UnknownNameError, match="live_log_paths"):
        FineTunedRLM(StartConfig(str(start), like="live_log_paths")).fit(networks(4, 0), pd.DataFrame({"a": range(4)}))
    with pytest.raises(UsageError, match="dropout is 1"):
        StartConfig(str(start), dropout=1.0)
    with pytest.raises(UsageError, match=r"shrink is 0\.0; it must lie in \(0, 1\]"):
        StartConfig(str(start), shrink=0.0)


def test_the_method_of_the_benchmark_takes_its_steps() -> None:
    for size, steps in STEPS.items():
        chosen = finetuning_sizes(size)
        batch, epochs = chosen["training.batch_size"], chosen["training.epochs"]
        assert isinstance(batch, int) and isinstance(epochs, int)
        assert abs(epochs * -(-size // batch) - steps) <= -(-size // batch)
    assert find("rlm").start
