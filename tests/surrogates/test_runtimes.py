"""Devices, precision and runtimes of the encoder while predicting: other ways to the same numbers."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

import search_spaces
from search_spaces.analysis import count_macs, count_parameters
from search_spaces.errors import UsageError
from surrogates.base import Prediction
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig
from surrogates.rlm.export import INPUTS, encoder_to_onnx, export_encoder
from surrogates.rlm.inputs import GraphBatch, collate
from surrogates.rlm.runtimes import TorchRuntime
from surrogates.text import linearize

TINY = ModelConfig(
    width=40,
    encoder_layers=2,
    decoder_layers=2,
    feed_forward=64,
    heads=("producers", "consumers", "ancestors", "descendants", "all"),
)
TRAINING = TrainingConfig(epochs=8, batch_size=20, learning_rate=4e-3, threads=1)


@pytest.fixture(scope="module")
def cells() -> tuple[list[str], pd.DataFrame]:
    """Texts of cells of two spaces, hence of many lengths, with parameters and MACs."""
    rng = np.random.default_rng(5)
    models = []
    for name in "nasbench201", "nasbench101":
        space = search_spaces.get(name)
        models += [space.to_onnx(space.sample(rng)) for _ in range(50)]
    labels = pd.DataFrame({"params": [count_parameters(m) for m in models], "macs": [count_macs(m) for m in models]})
    return [linearize(m) for m in models], labels.astype(float)


@pytest.fixture(scope="module")
def fitted(cells: tuple) -> RLM:
    return RLM(TINY, TRAINING).fit(*cells)


def predicted(rlm: RLM, texts: list[str], decoding: DecodingConfig, given: pd.DataFrame | None = None) -> Prediction:
    changed = copy.copy(rlm)
    changed.decoding = decoding
    return changed.predict(texts, given=given)


@pytest.mark.parametrize("method", ["exact", "sample"])
def test_every_tensor_is_made_where_the_network_is(fitted: RLM, cells: tuple, method: str) -> None:
    """With another default device, a tensor made without naming one lands there and cannot meet the network's."""
    texts, labels = cells
    decoding = DecodingConfig(method=method, samples=4, batch_size=40)
    given = labels[["params"]]
    expected = predicted(fitted, texts, decoding, given)
    with torch.device("meta"):
        found = predicted(fitted, texts, decoding, given)
    np.testing.assert_array_equal(found.mean, expected.mean)
    assert fitted.to("cpu") is fitted
    assert fitted.device == torch.device("cpu")
    assert copy.deepcopy(fitted).to("meta").device == torch.device("meta")


def test_bfloat16_comes_close(fitted: RLM, cells: tuple) -> None:
    texts, labels = cells
    for given in None, labels[["params"]]:
        whole = predicted(fitted, texts, DecodingConfig(), given)
        half = predicted(fitted, texts, DecodingConfig(precision="bfloat16"), given)
        assert not np.array_equal(half.mean, whole.mean)
        assert spearmanr(half.mean[:, 1], whole.mean[:, 1]).statistic > 0.98
        assert np.isfinite(half.std).all()


def test_onnxruntime_gives_the_same(fitted: RLM, cells: tuple) -> None:
    texts, labels = cells
    for given in None, labels[["params"]]:
        torch_found = predicted(fitted, texts, DecodingConfig(batch_size=16), given)
        onnx_found = predicted(fitted, texts, DecodingConfig(batch_size=16, encoder_runtime="onnxruntime"), given)
        np.testing.assert_allclose(onnx_found.mean, torch_found.mean, rtol=1e-4)
        np.testing.assert_allclose(onnx_found.std, torch_found.std, rtol=1e-2, atol=1e-3 * torch_found.std.max())


def test_int8_orders_alike(fitted: RLM, cells: tuple) -> None:
    texts, _ = cells
    whole = predicted(fitted, texts, DecodingConfig())
    small = predicted(fitted, texts, DecodingConfig(encoder_runtime="onnxruntime-int8"))
    assert not np.array_equal(small.mean, whole.mean)
    for column in range(2):
        assert spearmanr(small.mean[:, column], whole.mean[:, column]).statistic > 0.95


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("heads", [TINY.heads, ("all",), ("producers", "descendants")])
def test_the_exported_encoder_is_the_encoder(cells: tuple, heads: tuple[str, ...], flow: bool) -> None:
    """On random weights, for batches of all sizes, padded or not; padding itself may differ."""
    texts, labels = cells
    rlm = RLM(replace(TINY, heads=heads, flow=flow), TrainingConfig(epochs=1, batch_size=100, threads=1)).fit(
        texts, labels
    )
    for parameter in rlm.network.parameters():  # far from initial values: norms and biases, too
        torch.nn.init.normal_(parameter, std=0.3)
    model = encoder_to_onnx(rlm.network)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    encoded = rlm.encode(texts)
    for rows in [0], [99], [0, 99, 50], list(range(100)):
        batch = collate([encoded[row] for row in rows])
        assert isinstance(batch, GraphBatch)
        (found,) = session.run(None, {name: getattr(batch, name).numpy() for name in INPUTS})
        with torch.inference_mode():
            memory = rlm.network.memory(batch)
        for index, expected in enumerate([memory.keys[0], memory.values[0], memory.keys[1], memory.values[1]]):
            seen = batch.present[:, None, :, None].expand_as(expected)
            np.testing.assert_allclose(found[index][seen.numpy()], expected[seen].numpy(), atol=2e-4, rtol=2e-4)


def test_export_writes_files(fitted: RLM, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("onnx")
    whole = export_encoder(fitted.network, folder / "encoder.onnx")
    small = export_encoder(fitted.network, folder / "encoder_int8.onnx", int8=True)
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in kinds
    assert whole.stat().st_size > small.stat().st_size


def test_new_weights_are_not_answered_by_old_sessions(fitted: RLM, cells: tuple) -> None:
    texts, _ = cells
    rlm = pickle.loads(pickle.dumps(fitted))
    rlm.decoding = DecodingConfig(encoder_runtime="onnxruntime")
    first = rlm.predict(texts[:20]).mean
    np.testing.assert_allclose(pickle.loads(pickle.dumps(rlm)).predict(texts[:20]).mean, first)  # with a live session
    with torch.no_grad():
        for parameter in rlm.network.encoder.parameters():
            parameter.mul_(-1.1)
    second = rlm.predict(texts[:20]).mean
    assert not np.allclose(first, second)
    np.testing.assert_allclose(second, predicted(rlm, texts[:20], DecodingConfig()).mean, rtol=1e-4)


_CHILD = """
import json, sys, warnings
from surrogates.rlm import RLM, DecodingConfig
rlm = RLM.from_pretrained(sys.argv[1])
rlm.decoding = DecodingConfig(compile=True)
texts = json.load(open(sys.argv[2]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    means = [rlm.predict(texts).mean.tolist() for _ in range(2)]
told = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
json.dump({"told": told, "means": means}, open(sys.argv[3], "w"))
"""


@pytest.mark.slow
def test_compilation_that_fails_is_told_and_done_without(fitted: RLM, cells: tuple, tmp_path: Path) -> None:
    """In a process of its own: torch remembers for its lifetime whether there is a compiler."""
    texts = cells[0][:10]
    fitted.save_pretrained(tmp_path / "rlm")
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    found = tmp_path / "found.json"
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", _CHILD, *map(str, (tmp_path / "rlm", tmp_path / "texts.json", found))]
    subprocess.run(command, check=True, env=environment)
    result = json.loads(found.read_text())
    (message,) = result["told"]  # once, not for every batch
    assert "needs a C++ compiler" in message
    for mean in result["means"]:
        np.testing.assert_allclose(mean, predicted(fitted, texts, DecodingConfig()).mean, rtol=1e-5)


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same(fitted: RLM, cells: tuple) -> None:
    texts, _ = cells
    torch._dynamo.reset()
    encoded = fitted.encode(texts[:10])
    runtime = TorchRuntime(fitted.network, compiled=True)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for rows in slice(0, 10), slice(3, 5):
            batch = collate(encoded[rows])
            found, expected = runtime.memory(batch), fitted.network.memory(batch)
            torch.testing.assert_close(found.keys, expected.keys, atol=1e-4, rtol=1e-4)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'int4'; choose from: auto, float32, bfloat16"):
        DecodingConfig(precision="int4")
    with pytest.raises(UsageError, match="unknown encoder_runtime 'tpu'; choose from: torch, onnxruntime, "):
        DecodingConfig(encoder_runtime="tpu")
    with pytest.raises(UsageError, match="compile is for torch"):
        DecodingConfig(compile=True, encoder_runtime="onnxruntime")
