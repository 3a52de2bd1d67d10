"""The live part of a network: it computes what the whole computes, and nothing else is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import search_spaces
from search_spaces.errors import UsageError
from search_spaces.networks import Networks
from search_spaces.torch_module import to_torch
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, ModelConfig, ReadingConfig, TrainingConfig
from surrogates.text import linearize, parse
from surrogates.text.linearize import in_other_orders
from tests.surrogates.signature import signature
from tests.surrogates.test_text_properties import graphs

#: Spaces whose networks may hold operations that do not touch the result.
WASTEFUL = ("nasbench201", "transnas_micro", "darts", "nasnet", "amoeba", "enas", "pnas")


def outcome(text: str) -> torch.Tensor:
    """What the network computes of one image, with weights that depend on their shapes alone."""
    module = to_torch(parse(text))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                rng = torch.Generator().manual_seed(sum(size * 31**i for i, size in enumerate(parameter.shape)))
                parameter.copy_(torch.randn(parameter.shape, generator=rng) / parameter[0].numel() ** 0.5)
        result = module(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert isinstance(result, torch.Tensor)
    return result


@pytest.mark.parametrize("name", ["nasbench201", "transnas_micro"])
def test_the_live_part_computes_the_same(name: str) -> None:
    options = {"channels": 8, "input_size": 16} | ({"cells": 1} if name == "nasbench201" else {"classes": 10})
    space, rng = search_spaces.get(name, **options), np.random.default_rng(5)
    shorter = 0
    for _ in range(25):
        model = space.to_onnx(space.sample(rng))
        whole, live = linearize(model), linearize(model, live=True)
        shorter += len(live) < len(whole)
        torch.testing.assert_close(outcome(live), outcome(whole), rtol=1e-4, atol=1e-5)
    assert shorter > 10


@pytest.mark.parametrize("name", search_spaces.names())
def test_what_is_left_is_what_counts(name: str) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(11)
    models = [space.to_onnx(space.sample(rng)) for _ in range(40 if name in WASTEFUL else 8)]
    whole, live = [linearize(model) for model in models], [linearize(model, live=True) for model in models]
    changed = [text != short for text, short in zip(whole, live, strict=True)]
    assert any(changed) == (name in WASTEFUL)
    before, after = (free_targets([parse(text) for text in texts]) for texts in (whole, live))
    counted = [column for column in before if column.startswith("live_") and column != "live_log_bytes"]
    np.testing.assert_allclose(after[counted], before[counted])
    flows = before["live_log_paths"] > 0
    spare = after["log_params"][flows] - before["live_log_params"][flows]
    assert spare.min() > -1e-9 and spare.max() < (0.1 if name == "darts" else 1e-9)  # zeros it concatenates are made
    for model, text, short in zip(models, whole, live, strict=True):
        onnx.checker.check_model(parse(short), full_check=True)
        assert linearize(parse(short), live=True) == linearize(parse(short))  # nothing dead is left
        other = in_other_orders(model, 1, rng=rng, live=True)[0]
        assert signature(parse(other), commutative=True) == signature(parse(short), commutative=True)
        assert len(short) <= len(text)


def test_functionally_identical_cells_read_alike() -> None:
    space = search_spaces.get("nasbench201")
    # what node 1 gets reaches the output through none alone, or nothing reaches node 1
    cells = (
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        "|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    )
    archs = [space.parse(cell) for cell in cells]
    assert len({space.canonical(arch) for arch in archs}) == 1
    (text,) = {linearize(space.to_onnx(arch), live=True) for arch in archs}
    assert text.split("\n")[:3] == ["def", "Identity", "def"]


def test_a_cell_without_a_path_writes_zeros() -> None:
    space = search_spaces.get("nasbench201")
    for cell in (
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
    ):
        text = linearize(space.to_onnx(space.parse(cell)), live=True)
        assert text.split("\n")[:3] == ["def", "Mul(~,=0f)", "def"]
        onnx.checker.check_model(parse(text), full_check=True)


def test_channels_of_zeros_stay_and_unread_inputs_go() -> None:
    """A function that makes nothing of its second input; a concatenation with zeros."""
    zero = helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("", TensorProto.FLOAT, [], [0.0]))
    body = [
        zero,
        helper.make_node("Relu", ["a"], ["kept"]),
        helper.make_node("Mul", ["b", "zero"], ["none"]),
        helper.make_node("Sigmoid", ["none"], ["nothing"]),
        helper.make_node("Add", ["kept", "nothing"], ["c"]),
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Cell", ["a", "b"], ["c"], body, opsets[:1])
    nodes = [
        helper.make_node("Tanh", ["x"], ["left"]),
        helper.make_node("Exp", ["x"], ["right"]),
        helper.make_node("Cell", ["left", "right"], ["one"], domain="own"),
        helper.make_node("Cell", ["one", "right"], ["two"], domain="own"),
        zero,
        helper.make_node("Mul", ["right", "zero"], ["zeros"]),
        helper.make_node("Concat", ["two", "zeros"], ["y"], axis=1),
    ]
    image = ["n", 4, 8, 8]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 8, 8])],
    )
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    text = linearize(model, live=True)
    assert text.split("\n")[:2] == ["def", "Relu"]
    left = ["in 4x8x8", "Tanh", "Exp <2", "F1*2 <2", "Mul(~,=0f) <2", "Concat axis=1 <2 1"]
    assert text.split("\n")[2:] == left


def test_a_model_that_drops_what_is_dead_cannot_tell_twins_apart(tmp_path: Path) -> None:
    """Nor after it was saved; one that keeps it can."""
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(2)
    learn = Networks(space, [space.sample(rng) for _ in range(24)])
    labels = pd.DataFrame({"score": rng.normal(size=len(learn))})
    cells = (
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    )
    twins = Networks(space, [space.parse(cell) for cell in cells])
    model = ModelConfig(width=16, encoder_layers=1, decoder_layers=1, feed_forward=16, heads=("producers", "all"))
    spread = {}
    for dead in "drop", "keep":
        rlm = RLM(model, TrainingConfig(epochs=2, batch_size=8, threads=1), reading=ReadingConfig(dead=dead))
        rlm.fit(learn, labels).save_pretrained(tmp_path / dead)
        loaded = RLM.from_pretrained(tmp_path / dead)
        assert loaded.reading == rlm.reading
        found = loaded.predict(twins).mean[:, 0]
        np.testing.assert_array_equal(found, rlm.predict(twins).mean[:, 0])
        spread[dead] = float(np.ptp(found))
    assert spread["drop"] == 0 < spread["keep"]
    with pytest.raises(UsageError, match="unknown treatment 'burn' of dead operations; choose from: keep, drop"):
        ReadingConfig(dead="burn")
    with pytest.raises(UsageError, match="unknown choice 'some' of functions; choose from: repeated, all"):
        ReadingConfig(functions="some")


@settings(max_examples=150)
@given(graphs(), st.integers(0, 2**32))
def test_random_graphs_stay_graphs(model: onnx.ModelProto, seed: int) -> None:
    text = linearize(model, live=True)
    parsed = parse(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert len(parsed.graph.output) == len(model.graph.output)
    assert len(text.split("\n")) <= len(linearize(model).split("\n"))
    (other,) = in_other_orders(model, 1, rng=np.random.default_rng(seed), live=True)
    onnx.checker.check_model(parse(other), full_check=True)
