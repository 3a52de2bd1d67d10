"""Few labels on a pretrained model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from nasrlm.bench.methods import find
from nasrlm.bench.pretrained import ALONE_STEPS, STEPS, finetuning_sizes
from search_spaces.errors import CheckpointError, UnknownNameError, UsageError
from surrogates.rlm import RLM, CalibrationConfig
from surrogates.rlm.few_shot import FineTunedRLM
from surrogates.rlm.starting import FAVOUR, StartConfig
from tests.surrogates.started import QUICK, networks


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
    taught = {**STEPS, 200: 450, 512: 450, 999: 450, 1000: 1200}
    for steps_of, pool in (taught, True), (ALONE_STEPS, False):
        for size, steps in steps_of.items():
            chosen = finetuning_sizes(size, pool=pool)
            batch, epochs = chosen["training.batch_size"], chosen["training.epochs"]
            assert isinstance(batch, int) and isinstance(epochs, int)
            assert abs(epochs * -(-size // batch) - steps) <= -(-size // batch)
    assert find("rlm").start
