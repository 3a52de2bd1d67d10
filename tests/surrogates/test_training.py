"""The training engine: several processes, early stopping, weights of the loss, going on from weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import search_spaces
from nasrlm.metrics import kendall_tau
from search_spaces.errors import CheckpointError, TrainingError, UnknownNameError, UsageError
from search_spaces.networks import Networks
from surrogates.progress import Progress
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.evaluation import rank_correlation
from surrogates.rlm.losses import expected_quantile, pairwise, slope, some_metrics
from surrogates.text import linearize

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
QUICK = TrainingConfig(epochs=6, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1)


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{**vars(QUICK), **changes})


_FIT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import pandas as pd
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.precision import is_main_process
folder = Path(sys.argv[1])
data, validation = (pd.read_json(folder / name) for name in ("data.json", "validation.json"))
model = json.loads((folder / "model.json").read_text())
rlm = RLM(ModelConfig(**model), TrainingConfig(**json.loads((folder / "training.json").read_text())))
rlm.fit(data.pop("text").tolist(), data, validation=(validation.pop("text").tolist(), validation))
rlm.save_pretrained(folder / "two")
if is_main_process():
    (folder / "history.json").write_text(json.dumps(rlm.history))
"""


def test_two_processes_go_the_way_of_one(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    """Unequal shares included: 65 graphs in batches of 16 leave one graph to two processes."""
    texts, labels = cells[0], cells[1][["params", "macs"]]
    training = config(epochs=3, ranking=0.5, precision="float32")
    one = RLM(TINY, training).fit(texts[:65], labels[:65], validation=(texts[65:105], labels[65:105]))
    labels[:65].assign(text=texts[:65]).to_json(tmp_path / "data.json")
    labels[65:105].assign(text=texts[65:105]).to_json(tmp_path / "validation.json")
    for name, settings in ("model", TINY), ("training", training):
        (tmp_path / f"{name}.json").write_text(json.dumps(vars(settings)))
    (tmp_path / "fit.py").write_text(_FIT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, str(tmp_path / "fit.py"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    history = json.loads((tmp_path / "history.json").read_text())
    assert one.history["losses"][0] > 1.05 * one.history["losses"][-1]  # it did learn
    np.testing.assert_allclose(history["losses"], one.history["losses"], rtol=1e-4)
    np.testing.assert_allclose(history["validation"], one.history["validation"], atol=0.02)
    two = RLM.from_pretrained(tmp_path / "two")
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(two.network.state_dict()[name], tensor, rtol=1e-2, atol=2e-3)


def test_an_interrupted_fit_resumes_with_its_best_weights(
    cells: tuple[list[str], pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at its seventh look at the validation graphs; the state is that of the step before."""
    texts, labels = cells
    training = config(epochs=12, learning_rate=2e-2, checkpoint_minutes=0.0)

    def fit(folder: Path) -> RLM:
        rlm = RLM(TINY, training)
        validation = (texts[60:100], labels[["params"]][60:100])
        return rlm.fit(texts[:60], labels[["params"]][:60], validation=validation, checkpoint=folder)

    def interrupted(*arguments: object) -> float:
        looks.append(1)
        if len(looks) == 7:
            raise KeyboardInterrupt
        return rank_correlation(*arguments)  # type: ignore[arg-type]

    looks: list[int] = []
    whole = fit(tmp_path / "a")
    with monkeypatch.context() as patched:
        patched.setattr("surrogates.rlm.training.rank_correlation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "b")
    state = torch.load(tmp_path / "b" / "training.pt", weights_only=True)
    assert state["step"] == 7 * 4 - 1
    assert len(state["course"]["validation"]) == 6
    resumed = fit(tmp_path / "b")
    assert {**resumed.history, "seconds": 0} == {**whole.history, "seconds": 0}
    assert resumed.temperatures == whole.temperatures
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    resumed.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "b").iterdir())


def test_early_stopping_keeps_the_best_weights(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    validation = (texts[120:], labels[["params"]][120:])
    rlm = RLM(TINY, config(epochs=60, patience=4, evaluate_every=2))
    rlm.fit(texts[:120], labels[["params"]][:120], validation=validation)
    epochs, scores = zip(*rlm.history["validation"], strict=True)
    assert epochs == tuple(range(2, epochs[-1] + 1, 2))
    assert epochs[-1] - rlm.history["best_epoch"] == 4  # it stopped, four epochs past the best
    assert epochs[-1] < 60
    assert len(rlm.history["losses"]) == epochs[-1]
    found = kendall_tau(labels["params"][120:].to_numpy(), rlm.predict(texts[120:]).mean[:, 0])
    best = max(scores)
    assert scores[-1] < best
    # the temperature, fitted afterwards, may move single pairs
    assert abs(found - best) < 0.02


def test_a_heavier_metric_is_learned_better(cells: tuple[list[str], pd.DataFrame]) -> None:
    """Two metrics that order the same graphs in opposite ways: the one without weight is written like the other."""
    texts, labels = cells
    both = pd.DataFrame({"params": labels["params"], "opposite": -labels["params"]})
    found = []
    for weight in (0.0, 10.0):
        rlm = RLM(TINY, config(joint=0.0)).fit(texts, both, metric_weights={"params": weight})
        mean = rlm.predict(texts, ["params"]).mean[:, 0]
        found.append(np.nan_to_num(kendall_tau(labels["params"].to_numpy(), mean)))
    assert found[0] < 0.2
    assert found[1] > 0.5


def test_digit_weights_choose_the_digits_learned(cells: tuple[list[str], pd.DataFrame]) -> None:
    """With the first digit weightless its distribution stays near where it began; the other digits are learned."""
    texts, labels = cells
    leading, trailing = (
        RLM(TINY, config(digit_weights=weights)).fit(texts, labels[["params"]]) for weights in ((1.0, 0.0), (0.0, 1.0))
    )
    truth = labels["params"].to_numpy()
    taus = [np.nan_to_num(kendall_tau(truth, rlm.predict(texts).mean[:, 0])) for rlm in (leading, trailing)]
    assert taus[0] > taus[1] + 0.2
    with pytest.raises(UsageError, match="digit_weights"):
        config(digit_weights=(0.0,))


@given(measured=hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 7))), count=st.integers(0, 8))
def test_a_step_writes_some_of_the_metrics_that_are_known(measured: np.ndarray, count: int) -> None:
    """As many as asked for, no other before those, none twice; all in their order without a limit."""
    metrics = measured.shape[1]
    chosen = some_metrics(measured, count, np.random.default_rng(0))
    wanted = min(count, metrics) if count else metrics
    assert chosen.shape == (len(measured), wanted)
    for row, columns in zip(measured, chosen, strict=True):
        assert len(set(columns)) == wanted
        assert row[columns].sum() == min(wanted, row.sum())
    if wanted == metrics:
        assert (chosen == np.arange(metrics)).all()


def test_one_metric_at_once_teaches_all(cells: tuple[list[str], pd.DataFrame]) -> None:
    """Two metrics that order the same graphs in opposite ways are both learned, though a step writes one a graph."""
    texts, labels = cells
    both = pd.DataFrame({"params": labels["params"], "opposite": -labels["params"]})
    predicted = RLM(TINY, config(epochs=30, joint=0.0, metrics_at_once=1)).fit(texts, both).predict(texts).mean
    assert all(kendall_tau(both[name].to_numpy(), predicted[:, i]) > 0.5 for i, name in enumerate(both))


def test_graphs_are_read_in_several_orders(tmp_path: Path) -> None:
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    nets = Networks(space, [space.sample(rng) for _ in range(8)])
    labels = pd.DataFrame({"accuracy": rng.normal(size=8)})
    training = TrainingConfig(epochs=2, batch_size=4, threads=1, seed=1)
    once, often = (RLM(TINY, replace(training, orders=orders)).fit(nets, labels) for orders in (1, 4))
    again = RLM(TINY, replace(training, orders=4)).fit(nets, labels)
    assert often.history["losses"] == again.history["losses"]
    assert often.history["losses"] != once.history["losses"]
    assert often.history["steps"] == once.history["steps"]  # an epoch is one look at each graph all the same
    with pytest.raises(UsageError, match="one order, asked for 4"):
        RLM(TINY, replace(training, orders=4)).fit([linearize(net) for net in nets], labels)


def test_the_ranking_loss_asks_for_the_true_distance() -> None:
    truth = torch.tensor([[0.10, 0.5], [0.15, np.nan], [0.90, 0.2]])
    weights = torch.tensor([1.0, 2.0])
    assert pairwise(truth.nan_to_num(), truth, weights, capped=True) == 0  # the truth itself costs nothing
    # first metric: 3 pairs, all expected equal, so margins .05, .1 and .1; second: one pair, margin .1, weight 2
    constant = pairwise(torch.full((3, 2), 0.5), truth, weights, capped=True)
    np.testing.assert_allclose(constant, (0.05 + 0.1 + 0.1 + 2 * 0.1) / 5, rtol=1e-6)
    assert pairwise(-truth.nan_to_num(), truth, weights, capped=True) > constant
    unknown = torch.full((3, 2), torch.nan)
    assert pairwise(truth.nan_to_num(), unknown, weights, capped=True) == 0


def test_without_a_cap_the_ranking_loss_asks_the_same_of_all_pairs() -> None:
    truth, weights = torch.tensor([[0.10], [0.11], [0.90]]), torch.ones(1)
    # the first pair lacks .05 of the margin, the others nothing
    loss = pairwise(torch.tensor([[0.0], [0.05], [3.0]]), truth, weights, capped=False)
    np.testing.assert_allclose(loss, 0.05 / 3, rtol=1e-5)


def test_what_the_first_digit_is_ordered_by() -> None:
    logits = torch.log_softmax(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)), -1)
    steeper = logits + 0.4 * torch.linspace(-1, 1, 10)
    torch.testing.assert_close(slope(steeper) - slope(logits), torch.full((200,), 0.4))
    assert (expected_quantile(steeper) > expected_quantile(logits)).all()
    certain = torch.full((10,), -100.0).index_fill(0, torch.tensor(7), 0.0)
    torch.testing.assert_close(expected_quantile(certain), torch.tensor(0.75))
    torch.testing.assert_close(slope(logits + 5.0), slope(logits))  # as the softmax, blind to a constant


@pytest.mark.parametrize("by", ["quantile", "slope"])
def test_the_ranking_loss_orders_by_itself(by: str, cells: tuple[list[str], pd.DataFrame]) -> None:
    """Digits of no weight, so that whatever is learned comes from the pairs."""
    texts, labels = cells
    training = config(epochs=10, digit_weights=(0.0, 1e-9), ranking=10.0, ranking_by=by)
    rlm = RLM(TINY, training).fit(texts, labels[["params"]])
    assert kendall_tau(labels["params"].to_numpy(), rlm.predict(texts).mean[:, 0]) > 0.5
    with pytest.raises(UsageError, match="quantile"):
        RLM(TINY, training, value_scale="raw").fit(texts[:8], labels[["params"]][:8])


def test_finetuning_goes_on_and_adds_metrics(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    texts, labels = cells
    RLM(TINY, config(epochs=12)).fit(texts[:120], labels[["params", "macs"]][:120]).save_pretrained(tmp_path)
    rlm = RLM.from_pretrained(tmp_path)
    before = rlm.network.metric_embedding.weight.detach().clone()
    encoder = [p.detach().clone() for p in rlm.network.encoder.parameters()]
    few = pd.DataFrame({"copied": -labels["params"][:40], "macs": labels["macs"][:40]})
    tuned = rlm.finetune(
        texts[:40], few, training=config(epochs=10, learning_rate=1e-3), freeze=("encoder",), refit_scales=False
    )
    assert tuned is rlm
    assert rlm.metrics == ("params", "macs", "copied")
    after = rlm.network.metric_embedding.weight
    assert after.shape[0] == 3
    assert (after[:2] - before).abs().max() < 0.1
    for old, new in zip(encoder, rlm.network.encoder.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)
        assert new.requires_grad
    predicted = rlm.predict(texts[120:])
    assert kendall_tau(labels["params"][120:].to_numpy(), predicted.mean[:, 0]) > 0.5  # not forgotten
    assert rlm.training.epochs == 10
    rlm.save_pretrained(tmp_path / "tuned")
    again = RLM.from_pretrained(tmp_path / "tuned").predict(texts[:4])
    np.testing.assert_array_equal(again.mean, rlm.predict(texts[:4]).mean)


def test_finetuning_refits_scales(cells: tuple[list[str], pd.DataFrame]) -> None:
    """Labels a hundred times as large: without new scales every prediction would stay among the old values."""
    texts, labels = cells
    rlm = RLM(TINY, config()).fit(texts[:60], labels[["params"]][:60])
    kept = rlm.scales[0]
    far = 100 * labels[["params"]]
    rlm.finetune(texts[:60], far[:60], training=config(epochs=1), refit_scales=False)
    assert rlm.scales[0] == kept
    assert rlm.predict(texts[:10]).mean.max() <= labels["params"].max()
    rlm.finetune(texts[:60], far[:60], training=config(epochs=1))
    assert rlm.predict(texts[:10]).mean.min() >= far["params"].min() > labels["params"].max() / 10
    assert rlm.scales[0].values[-1] == far["params"][:60].max()


def test_finetuning_starts_from_what_was_learned(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    short = config(epochs=2, learning_rate=2e-3)
    truth = labels["params"][120:].to_numpy()
    fresh = RLM(TINY, short).fit(texts[100:110], labels[["params"]][100:110])
    tuned = RLM(TINY, config(epochs=12)).fit(texts[:100], labels[["params"]][:100])
    tuned.finetune(texts[100:110], labels[["params"]][100:110], training=short)
    scores = [np.nan_to_num(kendall_tau(truth, rlm.predict(texts[120:]).mean[:, 0])) for rlm in (fresh, tuned)]
    assert scores[1] > scores[0] + 0.2


def test_a_loss_that_is_not_finite_keeps_the_good_state(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    texts, labels = cells
    wild = config(learning_rate=1e30, clip=1e30, checkpoint_minutes=0.0)
    with pytest.raises(TrainingError, match=r"the last good state is in .*training\.pt"):
        RLM(TINY, wild).fit(texts, labels[["params"]], checkpoint=tmp_path)
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())
    assert max(tensor.abs().max() for tensor in state["network"].values()) < 1e6  # from before the leap
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.pt"]
    calmer = replace(wild, learning_rate=1e-3, clip=1e30)  # what the message advises
    assert np.isfinite(RLM(TINY, calmer).fit(texts, labels[["params"]], checkpoint=tmp_path).history["loss"])


def test_state_of_other_data_is_not_taken_over(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    texts, labels = cells
    wild = config(learning_rate=1e30, clip=1e30)
    with pytest.raises(TrainingError):
        RLM(TINY, wild).fit(texts, labels[["params"]], checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings, data or start \(data\)"):
        RLM(TINY, wild).fit(texts, -labels[["params"]], checkpoint=tmp_path)
    (tmp_path / "training.pt").write_bytes(b"foreign")
    with pytest.raises(CheckpointError, match="not the state"):
        RLM(TINY, wild).fit(texts, labels[["params"]], checkpoint=tmp_path)


def test_half_precision_learns_too(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    full, half = (
        RLM(TINY, config(precision=p)).fit(texts[:48], labels[["params"]][:48]) for p in ("float32", "bfloat16")
    )
    assert full.history["losses"] != half.history["losses"]
    np.testing.assert_allclose(half.history["losses"], full.history["losses"], rtol=0.05)
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_what_does_not_fit_together_is_named(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    params = labels[["params"]]
    rlm = RLM(TINY, config(epochs=1))
    with pytest.raises(UnknownNameError, match="'macs'; choose from: params"):
        rlm.fit(texts, params, metric_weights={"macs": 2.0})
    with pytest.raises(UnknownNameError, match="'macs'; choose from: params"):
        rlm.fit(texts, params, validation=(texts, labels[["macs"]]))
    with pytest.raises(UsageError, match="160 graphs and 3 rows"):
        rlm.fit(texts, params, validation=(texts, params[:3]))
    with pytest.raises(UsageError, match="the weight of 'params' is -1"):
        rlm.fit(texts, params, metric_weights={"params": -1.0})
    with pytest.raises(UsageError, match="two different validation labels"):
        rlm.fit(texts[:8], params[:8], validation=(texts[:1], params[:1]))
    with pytest.raises(UsageError, match="fit or from_pretrained first"):
        RLM(TINY).finetune(texts, params)
    rlm.fit(texts[:8], params[:8])
    with pytest.raises(UnknownNameError, match=r"'encodr'.*Did you mean 'encoder'"):
        rlm.finetune(texts[:8], params[:8], freeze=("encodr",))
    everything = tuple(name for name, _ in rlm.network.named_children())
    with pytest.raises(UsageError, match="nothing is left to train"):
        rlm.finetune(texts[:8], params[:8], freeze=everything)
    with pytest.raises(UsageError, match="unknown precision 'half'; choose from: auto, float32, bfloat16"):
        config(precision="half")
    with pytest.raises(UsageError, match="unknown ranking_by 'taste'; choose from: quantile, slope"):
        config(ranking_by="taste")
    with pytest.raises(UsageError, match="metrics_at_once is 2, but a ranking loss"):
        config(ranking=1.0, metrics_at_once=2)


def test_progress_counts_graphs(cells: tuple[list[str], pd.DataFrame], capsys: pytest.CaptureFixture[str]) -> None:
    texts, labels = cells
    RLM(TINY, config(epochs=2)).fit(texts[:20], labels[["params"]][:20], progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("training: 40/40, ")
    assert "graphs/s" in last
    assert "loss" in last
    with Progress("x", 1, unit="") as bar:
        bar.advance()
    assert " graphs" not in capsys.readouterr().err
