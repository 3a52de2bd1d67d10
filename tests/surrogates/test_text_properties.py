"""Random graphs survive the text: shapes, fan-out, weights, constants, several outputs."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import search_spaces
from search_spaces.graph import DATA_INPUTS
from surrogates.text import linearize, parse
from surrogates.text.linearize import in_other_orders
from surrogates.text.outline import outline
from tests.surrogates.signature import signature

_STEPS = ("conv", "block", "block", "depthwise", "unary", "scale", "pool", "join", "concat", "split", "norm")


class _Draft:
    """A graph under construction; every image is ``(name, channels, size)``."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.images: list[tuple[str, int, int]] = []

    def weight(self, *shape: int) -> str:
        """A new weight, or now and then an old one of the same shape."""
        same = [w.name for w in self.weights if [d.dim_value for d in w.type.tensor_type.shape.dim] == list(shape)]
        if same and self.draw(st.integers(0, 9)) == 0:
            return self.draw(st.sampled_from(same))
        name = f"w{len(self.weights)}"
        self.weights.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def add(self, op: str, inputs: list[str], channels: int, size: int, outputs: int = 1, **attributes: object) -> None:
        """Add an operator whose outputs are all images of one shape."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        self.images += [(name, channels, size) for name in names]

    def step(self) -> None:
        """One operator, or a short block so that stretches repeat."""
        name, channels, size = self.draw(st.sampled_from(self.images[-4:]))
        match self.draw(st.sampled_from(_STEPS)):
            case "conv":
                kernel, stride = self.draw(st.sampled_from([1, 3])), self.draw(st.sampled_from([1, 1, 2]))
                self.conv(name, channels, self.draw(st.sampled_from([channels, channels, 4, 8])), size, kernel, stride)
            case "block":
                self.conv(name, channels, channels, size, 3, 1)
                self.add("Relu", [self.images[-1][0]], channels, size)
                self.conv(self.images[-1][0], channels, channels, size, 1, 1)
                self.add("Add", [self.images[-1][0], name], channels, size)
            case "depthwise":
                weight = self.weight(channels, 1, 3, 3)
                self.add("Conv", [name, weight], channels, size, kernel_shape=[3, 3], pads=[1] * 4, group=channels)
            case "unary":
                self.add(
                    self.draw(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Identity"])), [name], channels, size
                )
            case "scale":
                constant = helper.make_tensor(f"c{len(self.constants)}", TensorProto.FLOAT, [], [self.draw(_FLOATS)])
                self.constants.append(constant)
                sides = [name, constant.name]
                self.add(self.draw(st.sampled_from(["Mul", "Add"])), self.draw(st.permutations(sides)), channels, size)
            case "pool":
                self.add("MaxPool", [name], channels, size, kernel_shape=[3, 3], pads=[1] * 4)
            case "join":
                alike = [image[0] for image in self.images if image[1:] == (channels, size)]
                chosen = self.draw(st.lists(st.sampled_from(alike), min_size=2, max_size=3))
                self.add("Sum", chosen, channels, size)
            case "concat":
                other = self.draw(st.sampled_from([image for image in self.images if image[2] == size]))
                if channels + other[1] <= 32:
                    self.add("Concat", [name, other[0]], channels + other[1], size, axis=1)
            case "split":
                if channels % 2 == 0:
                    self.add("Split", [name], channels // 2, size, outputs=2, axis=1, num_outputs=2)
            case "norm":
                self.add("BatchNormalization", [name, *(self.weight(channels) for _ in range(4))], channels, size)

    def conv(self, name: str, inputs: int, channels: int, size: int, kernel: int, stride: int) -> None:
        """A convolution with half padding, with or without bias."""
        operands = [name, self.weight(channels, inputs, kernel, kernel)]
        if self.draw(st.booleans()):
            operands.append(self.weight(channels))
        pads = [kernel // 2] * 4
        size = (size - 1) // stride + 1
        shape, strides = [kernel, kernel], [stride, stride]
        self.add("Conv", operands, channels, size, kernel_shape=shape, strides=strides, pads=pads)


_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A random network of up to forty operators on one or two images."""
    draft = _Draft(draw)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 9, 9])]
    if draw(st.booleans()):
        inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 9, 9]))
    draft.images = [(value.name, value.type.tensor_type.shape.dim[1].dim_value, 9) for value in inputs]
    for _ in range(draw(st.integers(1, 12))):
        draft.step()
    if not draft.nodes:
        draft.add("Relu", ["x"], 4, 9)
    computed = [image for image in draft.images if image[0] not in ("x", "y")]
    chosen = draw(st.lists(st.sampled_from(computed), min_size=1, max_size=2, unique=True))
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, s, s]) for n, c, s in chosen]
    graph = helper.make_graph(draft.nodes, "random", [*inputs, *draft.weights], outputs, draft.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.add(key=DATA_INPUTS, value=",".join(value.name for value in inputs))
    return model


@settings(max_examples=150)
@given(graphs())
def test_random_graphs_survive_the_text(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    parsed = parse(linearize(model))
    onnx.checker.check_model(parsed, full_check=True)
    assert signature(parsed) == signature(model)
    assert signature(parse(linearize(model, outlining=False))) == signature(model)


@settings(max_examples=48, deadline=None)
@given(st.sampled_from(search_spaces.names()), st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans())
def test_networks_of_every_space_survive_the_text(
    name: str, seed: int, functions: bool, outlining: bool, inlining: bool
) -> None:
    space = search_spaces.get(name)
    model = space.to_onnx(space.sample(np.random.default_rng(seed)), functions=functions)
    parsed = parse(linearize(model, outlining=outlining, inlining=inlining))
    onnx.checker.check_model(parsed, full_check=True)
    assert signature(parsed) == signature(model)


@settings(max_examples=100)
@given(graphs())
def test_random_graphs_survive_outlining(model: onnx.ModelProto) -> None:
    outlined = outline(model)
    onnx.checker.check_model(outlined, full_check=True)
    assert signature(outlined) == signature(model)


@settings(max_examples=80)
@given(graphs(), st.integers(0, 2**32))
def test_other_orders_are_the_same_graph(model: onnx.ModelProto, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for text in in_other_orders(model, 3, rng=rng) + in_other_orders(model, 1, rng=rng, inlining=False):
        parsed = parse(text)
        onnx.checker.check_model(parsed, full_check=True)
        assert signature(parsed, commutative=True) == signature(model, commutative=True)
