"""The regression language model on small real problems."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import search_spaces
from search_spaces.analysis import count_macs, count_parameters
from search_spaces.errors import CheckpointError, InvalidGraphError, TrainingError, UnknownNameError, UsageError
from surrogates.numbers import FloatFormat, FractionFormat
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig
from surrogates.rlm.decoding import expand, sample
from surrogates.rlm.inputs import EncodedGraph, GraphBatch, collate
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.wired import Wires
from surrogates.text import linearize

TINY = ModelConfig(
    width=40, encoder_layers=2, decoder_layers=1, feed_forward=64, heads=("producers", "consumers") * 2 + ("all",)
)
QUICK = TrainingConfig(epochs=12, batch_size=32, learning_rate=4e-3, threads=1)


@pytest.fixture(scope="module")
def cells() -> tuple[list[str], pd.DataFrame]:
    """Texts of 200 NAS-Bench-201 cells with their parameters and MACs; a fifth of the MACs missing."""
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(3)
    models = [space.to_onnx(space.sample(rng)) for _ in range(200)]
    labels = pd.DataFrame({"params": [count_parameters(m) for m in models], "macs": [count_macs(m) for m in models]})
    labels = labels.astype(float)
    labels.loc[rng.random(200) < 0.2, "macs"] = np.nan
    return [linearize(m) for m in models], labels


@pytest.fixture(scope="module")
def fitted(cells: tuple[list[str], pd.DataFrame]) -> RLM:
    texts, labels = cells
    return RLM(TINY, QUICK).fit(texts[:150], labels.iloc[:150])


def test_it_learns(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    prediction = fitted.predict(texts[150:])
    assert prediction.metrics == ("params", "macs")
    assert spearmanr(prediction.mean[:, 0], labels["params"][150:]).statistic > 0.8
    assert (prediction.std >= 0).all()
    assert (np.diff(prediction.quantiles, axis=-1) >= 0).all()


def test_metrics_can_be_chosen(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, _ = cells
    both, one = fitted.predict(texts[150:]), fitted.predict(texts[150:], ["macs"])
    np.testing.assert_allclose(one.mean[:, 0], both.mean[:, 1], rtol=1e-4)
    with pytest.raises(UnknownNameError, match="choose from: macs, params"):
        fitted.predict(texts[:1], ["accuracy"])


def test_given_values_are_used(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    plain = fitted.predict(texts[150:], ["macs"]).mean
    informed = fitted.predict(texts[150:], ["macs"], given=labels[["params"]].iloc[150:]).mean
    misled = fitted.predict(texts[150:], ["macs"], given=pd.DataFrame({"params": labels["params"][150:][::-1]})).mean
    assert not np.allclose(plain, informed)
    assert not np.allclose(informed, misled)
    unknown = fitted.predict(texts[150:], ["macs"], given=pd.DataFrame({"params": [np.nan] * 50})).mean
    np.testing.assert_allclose(unknown, plain, rtol=1e-4)


def test_a_checkpoint_predicts_the_same(fitted: RLM, cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    again = RLM.from_pretrained(tmp_path)
    first, second = fitted.predict(cells[0][:20]), again.predict(cells[0][:20])
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.quantiles, second.quantiles)


def test_foreign_and_old_checkpoints_are_refused(fitted: RLM, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a checkpoint folder"):
        RLM.from_pretrained(tmp_path)
    fitted.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, complaint in ({"format_version": 0}, "format 0"), ({"surrogate": "gnn"}, "'gnn' surrogate"):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=complaint):
            RLM.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a complete"):
        RLM.from_pretrained(tmp_path)


def test_exact_mode_equals_brute_force(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    """With every prefix kept, the expansion is the full distribution; the default beams come close to it."""
    encoded = fitted.encode(cells[0][:4])
    network = fitted.network
    with torch.inference_mode():
        memory = network.memory(collate(encoded))
        full = expand(network, memory, [0, 1], FractionFormat(3), (10, 100))
        default = expand(network, memory, [0, 1], FractionFormat(3), (4, 4))
        index = np.indices((10, 10, 10)).reshape(3, -1).T
        tokens = torch.from_numpy(np.ascontiguousarray(np.broadcast_to(index, (4, 1000, 3))))
        visible = torch.zeros(4, 1, 1, dtype=torch.bool)
        expected = np.zeros((4, 1000))
        for i in range(1000):  # teacher-forced probability of each of the thousand numbers
            logits, _ = network.write(memory, torch.zeros(4, 1, dtype=torch.long), tokens[:, i : i + 1], visible)
            probability = network.output(network.norm(logits))[:, :3, :10].softmax(-1)
            expected[:, i] = probability.gather(2, tokens[:, i, :, None]).prod(1)[:, 0].numpy()
    order = np.argsort(full.values[:, 0], axis=-1)[:, -1000:]
    np.testing.assert_allclose(full.weights[:, 0].sum(-1), 1, rtol=1e-6)
    found = {round(float(v), 4): w for v, w in zip(full.values[0, 0], full.weights[0, 0], strict=True) if w > 0}
    values = FractionFormat(3).decode(index)
    np.testing.assert_allclose([found.get(round(float(v), 4), 0.0) for v in values], expected[0], atol=1e-6)
    assert order.shape == (4, 1000)
    np.testing.assert_allclose(default.mean()[:, 0], (expected * values).sum(-1), atol=0.03)


@pytest.mark.parametrize("number_format", [FractionFormat(3), FloatFormat(4)])
def test_random_weights_decode_to_numbers(number_format: FractionFormat | FloatFormat) -> None:
    torch.manual_seed(0)
    fitted_space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    texts = [linearize(fitted_space.to_onnx(fitted_space.sample(rng))) for _ in range(4)]
    rlm = RLM(TINY, TrainingConfig(epochs=1, batch_size=4)).fit(texts, pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}))
    encoder = rlm.reader.encoder(TINY)
    network = RLMNetwork(TINY, encoder, 3, len(number_format.steps)).eval()
    with torch.inference_mode():
        memory = network.memory(collate(rlm.encode(texts)))
        drawn = sample(network, memory, [0, 1, 2], number_format, 500, torch.Generator().manual_seed(0))
        exact = expand(network, memory, [0, 1, 2], number_format, (4, 4))
    assert np.isfinite(drawn.values).all()
    assert np.isfinite(exact.values).all()
    assert np.allclose(exact.weights.sum(-1), 1)


def test_sampling_agrees_with_exact(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    exact = fitted.predict(cells[0][150:160])
    network, decoding = fitted.network, fitted.decoding
    assert network is not None
    fitted.decoding = DecodingConfig(method="sample", samples=400)
    try:
        drawn = fitted.predict(cells[0][150:160])
        repeated = fitted.predict(cells[0][150:160])
    finally:
        fitted.decoding = decoding
    np.testing.assert_array_equal(drawn.mean, repeated.mean)  # seeded
    scale = np.ptp(exact.mean, axis=0)
    assert (np.abs(drawn.mean - exact.mean) / scale).mean() < 0.1


def test_raw_values_can_be_written(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    rlm = RLM(TINY, QUICK, value_scale="raw", digits=4).fit(texts[:60], labels.iloc[:60])
    prediction = rlm.predict(texts[:60])
    assert np.isfinite(prediction.mean).all()
    assert spearmanr(prediction.mean[:, 0], labels["params"][:60]).statistic > 0.3


def test_scales_can_be_chosen_by_metric(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    """Numbers of unequal length side by side: seven tokens of raw digits, four of a quantile."""
    texts, labels = cells
    rlm = RLM(TINY, QUICK, value_scale={"macs": "raw"}, digits=4).fit(texts[:60], labels.iloc[:60])
    assert [type(scale.format) for scale in rlm.scales] == [FractionFormat, FloatFormat]
    prediction = rlm.predict(texts[:60], given=labels[["macs"]].iloc[:60])
    assert np.isfinite(prediction.mean).all()
    assert spearmanr(prediction.mean[:, 0], labels["params"][:60]).statistic > 0.3
    rlm.save_pretrained(tmp_path)
    again = RLM.from_pretrained(tmp_path)
    assert again.value_scale == {"macs": "raw"}
    np.testing.assert_array_equal(again.predict(texts[:9]).mean, rlm.predict(texts[:9]).mean)
    with pytest.raises(UsageError, match="unknown value scale 'log'; choose from: raw, quantile"):
        RLM(TINY, QUICK, value_scale={"macs": "log"}).fit(texts[:60], labels.iloc[:60])


def test_unusable_input_is_named(fitted: RLM, cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    with pytest.raises(UsageError, match="3 graphs and 2 rows"):
        RLM(TINY, QUICK).fit(texts[:3], labels.iloc[:2])
    with pytest.raises(UsageError, match="at least one label"):
        RLM(TINY, QUICK).fit(texts[:2], pd.DataFrame({"a": [np.nan, np.nan]}))
    with pytest.raises(UsageError, match="fit or from_pretrained"):
        RLM().predict(texts[:1])
    short = RLM(ModelConfig(**{**TINY.__dict__, "context": 8}) if hasattr(TINY, "__dict__") else TINY)
    short._reader = fitted.reader
    short.model = ModelConfig(width=40, heads=TINY.heads, context=8)
    with pytest.raises(InvalidGraphError, match="exceeds the model's context of 8"):
        short.encode(texts[:1])


def test_a_loss_that_is_not_finite_stops(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    with pytest.raises(TrainingError, match="lower the learning rate"):
        RLM(TINY, TrainingConfig(epochs=3, batch_size=32, learning_rate=1e30, clip=1e30)).fit(texts, labels)


@pytest.mark.parametrize("scale", ["quantile", "raw"])
def test_infinite_labels_are_refused(cells: tuple[list[str], pd.DataFrame], scale: str) -> None:
    texts, labels = cells
    broken = labels[["params"]].astype(float).copy()
    broken.iloc[3, 0] = np.inf
    with pytest.raises(UsageError, match="infinite"):
        RLM(TINY, QUICK, value_scale=scale).fit(texts, broken)


_CHILD = """
import sys, pandas as pd
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
data = pd.read_json(sys.argv[1])
shape = {"width": 20, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 32}
tiny = ModelConfig(**shape, heads=("producers", "all"), dropout=0.1)
training = TrainingConfig(epochs=30, batch_size=8, threads=1, checkpoint_minutes=0.0)
rlm = RLM(tiny, training).fit(data.text.tolist(), data[["params"]], checkpoint=sys.argv[2])
rlm.save_pretrained(sys.argv[3])
"""


def test_a_killed_fit_resumes_to_the_same_weights(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    texts, labels = cells
    pd.DataFrame({"text": texts[:64], "params": labels["params"][:64]}).to_json(tmp_path / "data.json")

    def command(state: str, out: str) -> list[str]:
        return [sys.executable, "-c", _CHILD, *(str(tmp_path / name) for name in ("data.json", state, out))]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command("state_a", "whole"), check=True, env=environment)
    child = subprocess.Popen(command("state_b", "resumed"), env=environment)
    state = tmp_path / "state_b" / "training.pt"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if state.exists() and torch.load(state, weights_only=True)["step"] >= 20:
            break
        time.sleep(0.02)
    assert child.poll() is None, "the child ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert state.exists()
    assert not (tmp_path / "resumed").exists()
    subprocess.run(command("state_b", "resumed"), check=True, env=environment)
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "resumed" / "model.safetensors").read_bytes() == whole
    assert not state.exists()


def test_another_runs_state_is_not_taken_over(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    texts, labels = cells
    torch.save({"identity": {"epochs": 99}}, tmp_path / "training.pt")
    with pytest.raises(CheckpointError, match="other settings"):
        RLM(TINY, QUICK).fit(texts, labels, checkpoint=tmp_path)


def test_heads_that_take_the_mean_look_nowhere(cells: tuple[list[str], pd.DataFrame]) -> None:
    """What the keys say changes nothing for them; the values count, all alike and without padding."""
    texts, labels = cells
    for count in (0, 2, len(TINY.heads)):
        model = replace(TINY, mean_heads=count)
        rlm = RLM(model, TrainingConfig(epochs=1, threads=1)).initialise(texts[:20], labels.iloc[:20])
        network, batch = rlm.network.eval(), collate(rlm.encode(texts[:8]))
        names, tokens = torch.zeros(8, 1, dtype=torch.long), torch.zeros(8, 1, 3, dtype=torch.long)
        visible = torch.zeros(8, 1, 1, dtype=torch.bool)
        with torch.inference_mode():
            memory = network.memory(batch)
            first = tuple(torch.cat([torch.randn_like(k[:, :count]), k[:, count:]], dim=1) for k in memory.keys)
            every = tuple(torch.randn_like(k) for k in memory.keys)
            states, without_first, without_any = (
                network.write(memory._replace(keys=keys), names, tokens, visible)[0]
                for keys in (memory.keys, first, every)
            )
        torch.testing.assert_close(without_first, states)
        assert torch.allclose(without_any, states, atol=1e-5) == (count == len(TINY.heads))
    with pytest.raises(UsageError, match="mean_heads is 6; there are 5 heads"):
        replace(TINY, mean_heads=6)


def test_flow_adds_up_what_attention_averages(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts = ["def\nRelu\nSigmoid\nConv k3 <2 1\nin 3x8x8\nF1", "def\nRelu\nRelu\nSum <2 1\nConv k3\nin 3x8x8\nF1"]
    rlm = RLM(replace(TINY, flow=True), TrainingConfig(epochs=1)).initialise(texts, pd.DataFrame({"y": [0.0, 1.0]}))
    encoded = rlm.encode(texts)
    batch = collate(encoded)
    assert isinstance(batch, GraphBatch)
    wires = Wires.of(batch)
    for row, text in enumerate(encoded):
        assert isinstance(text, EncodedGraph)
        for token, line in enumerate(text.lines):
            operands, readers = text.operands[line].sum(), text.operands[:, line].sum()
            assert wires.operands[row, token].sum().item() == pytest.approx(operands)
            assert wires.readers[row, token].sum().item() == pytest.approx(readers)
        for line in range(text.lines.max() + 1):  # every line that is read weighs as much, however long it is
            weights = wires.operands[row][:, np.flatnonzero(text.lines == line)].sum(dim=-1)
            assert set(weights.round(decimals=5).tolist()) <= {0.0, 1.0}
