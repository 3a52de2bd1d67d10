"""Graph to text and back: nothing of the structure is lost."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import search_spaces
from search_spaces.errors import InvalidGraphError
from surrogates.text import linearize, parse
from surrogates.text.linearize import in_other_orders
from surrogates.text.parse import CALL
from surrogates.text.wiring import depths, through, wiring
from tests.surrogates.signature import signature

CELL = "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|skip_connect~1|none~2|"


@pytest.mark.parametrize("name", search_spaces.names())
@pytest.mark.parametrize("functions", [True, False])
def test_parse_gives_back_the_graph(name: str, functions: bool) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(7)
    for _ in range(3):
        model = space.to_onnx(space.sample(rng), functions=functions)
        parsed = parse(linearize(model))
        onnx.checker.check_model(parsed, full_check=True)
        assert signature(parsed) == signature(model)


def test_signature_tells_cells_apart() -> None:
    """The judge of the round trip must be able to say no."""
    space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    signatures = [signature(space.to_onnx(space.sample(rng))) for _ in range(20)]
    assert all(a != b for i, a in enumerate(signatures) for b in signatures[:i])


def test_text_of_a_cell_reads_like_the_documentation() -> None:
    space = search_spaces.get("nasbench201")
    lines = linearize(space.to_onnx(space.parse(CELL))).split("\n")
    assert lines[:9] == [
        "def",
        "AveragePool k3",
        "Relu|Conv k3|BatchNormalization <2",
        "Relu|Conv k1|BatchNormalization <2",
        "Add <2 1",
        "Identity <5",
        "Identity <5",
        "Mul(~,=0f) <3",
        "Sum <3 2 1",
    ]
    assert lines.count("F1*5") == 3


def test_texts_of_different_cells_differ() -> None:
    space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(1)
    archs = {space.sample(rng) for _ in range(300)}
    assert len({linearize(space.to_onnx(arch)) for arch in archs}) == len(archs)


def test_stored_weights_do_not_change_the_text() -> None:
    space = search_spaces.get("nasbench201", channels=4, cells=1)
    arch = space.parse(CELL)
    assert linearize(space.to_onnx(arch, weights=True)) == linearize(space.to_onnx(arch))


def test_wiring_follows_references_and_calls() -> None:
    space = search_spaces.get("nasbench201")
    text = linearize(space.to_onnx(space.parse(CELL)))
    producers = {i: list(map(int, np.flatnonzero(row))) for i, row in enumerate(wiring(text).producers)}
    assert producers[1] == [0]  # the first edge reads the cell's input, which the header stands for
    assert producers[4] == [2, 3]
    assert producers[8] == [5, 6, 7]
    first_call = text.split("\n").index("F1*5")
    assert producers[first_call] == [8, first_call - 1]
    assert wiring(text).ancestors[first_call, :9].all()


def test_operands_are_read_through_what_only_merges() -> None:
    text = "def\nRelu\nConv k3 <2\nAdd <2 1\nSum <1 2\nConcat axis=1 <1 4\nMul <1 2\nConv k1\nin 3x8x8\nF1"
    wires = wiring(text)
    operands = {i: list(map(int, np.flatnonzero(row))) for i, row in enumerate(wires.operands)}
    assert operands[3] == [1, 2]
    assert operands[4] == [1, 2, 3]  # the conv itself, and both operands of the sum before
    assert operands[5] == [1, 2, 3, 4]  # through both sums
    assert operands[6] == [1, 2, 3, 4, 5]
    assert operands[7] == [6]  # a product is an operation of its own
    assert (wires.producers <= wires.operands).all() and (wires.operands <= wires.ancestors).all()


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "enas_macro", "ofa_mobilenetv3"])
def test_operands_are_producers_and_ancestors_through_merges(name: str) -> None:
    """Against a search along the wires."""
    space, rng = search_spaces.get(name), np.random.default_rng(2)
    for _ in range(5):
        lines = linearize(space.to_onnx(space.sample(rng))).split("\n")
        wires = wiring("\n".join(lines))
        for line, row in enumerate(wires.operands):
            expected, stack = set[int](), list(np.flatnonzero(wires.producers[line]))
            while stack:
                source = int(stack.pop())
                expected.add(source)
                if lines[source].split(" ")[0].split("|")[0] in ("Add", "Sum", "Concat"):
                    stack += list(np.flatnonzero(wires.producers[source]))
            assert set(np.flatnonzero(row).tolist()) == expected


def test_entries_read_nothing_but_the_inputs_of_their_function() -> None:
    text = "def 2\nRelu <2\nSigmoid <2\nAdd <4 3\nAdd <2 1\nin 3x8x8\nRelu\nF1 <1 2"
    assert np.flatnonzero(wiring(text).entries).tolist() == [1, 2, 3]  # the first sum reads both inputs
    assert not wiring("in 3x8x8\nRelu").entries.any()


def test_any_line_can_be_read_through() -> None:
    chain = np.eye(4, k=-1, dtype=bool)
    assert np.flatnonzero(through(chain, np.array([True, True, False, False]))[2]).tolist() == [0, 1]
    assert np.flatnonzero(through(chain, np.array([True, False, True, False]))[3]).tolist() == [1, 2]
    assert (through(chain, np.zeros(4, dtype=bool)) == chain).all()


def test_depth_is_the_longest_way() -> None:
    wires = np.zeros((5, 5), dtype=bool)
    wires[1, 0] = wires[2, 1] = wires[3, 0] = wires[3, 2] = wires[4, 0] = True
    assert depths(wires).tolist() == [1, 2, 3, 4, 2]


def _model(nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], output: str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", values, [result]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    model.metadata_props.add(key="nasrlm.data_inputs", value="x")
    return model


def test_shared_weights_and_odd_shapes_survive() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),  # the same weight twice
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("Softmax", ["c"], ["d"], axis=1),
        helper.make_node("Mul", ["d", "a"], ["y"]),
    ]
    model = _model(nodes, {"x": ["n", 6, 8], "w": [8, 8], "bias": [6, 8]}, "y")
    text = linearize(model)
    assert "Weight 8x8" in text
    assert signature(parse(text)) == signature(model)


def test_several_outputs_survive() -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Sub", ["b", "a"], ["y"]),
    ]
    model = _model(nodes, {"x": ["n", 6, 4, 4]}, "y")
    text = linearize(model)
    assert "<1.1 1" in text
    assert signature(parse(text)) == signature(model)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Relu", "starts with"),
        ("def\nRelu", "no main graph"),
        ("in 3x8x8\nRelu <4", "reads '4'"),
        ("in 3x8x8\nF1", "not defined"),
        ("in 3x8x8\nNoSuchOperator", "NoSuchOperator"),
        ("in 3x8x8\nMul(~,?)", "not an operand"),
    ],
)
def test_unreadable_text_is_named(text: str, complaint: str) -> None:
    with pytest.raises(InvalidGraphError, match=complaint):
        parse(text)


@pytest.mark.parametrize("name", search_spaces.names())
def test_other_orders_of_a_network_are_the_same_network(name: str) -> None:
    """Slots of calls move with the lines of the function, and all calls of a cell keep one order."""
    space, rng = search_spaces.get(name), np.random.default_rng(3)
    model = space.to_onnx(space.sample(rng))
    own, others = linearize(model), in_other_orders(model, 4, rng=rng)
    for text in others:
        assert signature(parse(text), commutative=True) == signature(model, commutative=True)
        assert text.count("\ndef") == own.count("\ndef")


def test_without_inlining_the_main_graph_is_that_of_the_model() -> None:
    """A block reads the same wherever it stands; written where it is called, that depends on how often it is there."""
    space, rng = search_spaces.get("fbnet"), np.random.default_rng(0)
    models = [space.to_onnx(space.sample(rng)) for _ in range(6)]
    alike, inlined = [[_main(linearize(m, inlining=inlining)) for m in models] for inlining in (False, True)]
    calls = [sum(node.op_type != "Constant" for node in model.graph.node) for model in models]
    assert len(set(calls)) == 1  # every network of the space has as many blocks
    # neighbours that are equal share a line
    assert all(sum(map(_times, main)) == calls[0] for main in alike)
    assert all(len(a) <= len(b) for a, b in zip(alike, inlined, strict=True))
    assert any(len(a) < len(b) for a, b in zip(alike, inlined, strict=True))


def _times(line: str) -> int:
    call = CALL.match(line)
    return int(call["times"] or 1) if call is not None else 1


def _main(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[max(k for k, line in enumerate(lines) if line.startswith("in")) + 1 :]


def test_orders_of_a_cell_differ() -> None:
    space = search_spaces.get("nasbench201")
    model = space.to_onnx(space.parse(CELL))
    assert len({linearize(model), *in_other_orders(model, 8, rng=np.random.default_rng(0))}) > 5
