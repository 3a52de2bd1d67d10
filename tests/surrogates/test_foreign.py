"""ONNX files from anywhere: exports of PyTorch, old opsets, half precision, other vendors' operators, broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import search_spaces
from search_spaces.errors import InvalidGraphError
from search_spaces.files import load_onnx
from search_spaces.graph import data_inputs
from surrogates.text import linearize, parse
from surrogates.text.foreign import normalize
from surrogates.text.outline import outline
from tests.surrogates.signature import signature
from tests.surrogates.strangers import NETWORKS, export

#: Share of the characters that outlining leaves of each network's text; the last two hardly repeat anything.
SHARES = {"resnet": 0.55, "mobilenet": 0.55, "vit": 0.4, "encoder": 0.5, "recurrent": 1.0, "unet": 1.0}
#: The exporter that traces through torch.export takes seconds a network.
EXPORTS = [
    *[("torchscript", name) for name in NETWORKS],
    ("dynamo", "unet"),
    *[pytest.param("dynamo", name, marks=pytest.mark.slow) for name in NETWORKS if name != "unet"],
]


@pytest.mark.parametrize(("exporter", "name"), EXPORTS)
def test_exports_of_pytorch(exporter: str, name: str) -> None:
    make, example = NETWORKS[name]
    model = export(make(), example(), exporter)
    text, plain = linearize(model), normalize(model)
    parsed = parse(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert signature(parsed) == signature(plain)
    assert len(text) <= SHARES[name] * len(linearize(model, outlining=False))
    outlined = outline(plain)
    onnx.checker.check_model(outlined, full_check=True)
    expected = _run(model, example().numpy())
    if _restore_weights(outlined, model):
        np.testing.assert_allclose(_run(outlined, example().numpy()), expected, rtol=1e-4, atol=1e-5)
    else:
        assert name in ("encoder", "recurrent")  # weights cut up or rearranged by nodes of the graph


@pytest.mark.parametrize("name", ["vit", "resnet", "recurrent"])
def test_a_free_batch_size_leaves_no_trace(name: str) -> None:
    make, example = NETWORKS[name]
    model = export(make(), example(), "torchscript", free_batch=True)
    operators = {node.op_type for node in normalize(model).graph.node}
    assert not operators & {"Shape", "Gather", "Unsqueeze", "Constant", "ConstantOfShape", "Expand"} - {"Gather"}
    assert signature(parse(linearize(model))) == signature(normalize(model))
    if name != "recurrent":  # there the exporter itself takes another path
        assert linearize(model) == linearize(export(make(), example(), "torchscript"))


@pytest.mark.parametrize("opset", [13, 15, 17, 20])
def test_opsets_read_alike(opset: int) -> None:
    make, example = NETWORKS["vit"]
    old = export(make(), example(), "torchscript", opset=opset)
    text = linearize(old)
    parsed = parse(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert linearize(parsed) == text
    assert ("Gelu" in text) == (opset == 20)  # new operators keep their names
    if opset == 17:  # before that, the exporter spells layer normalisation out
        assert text == linearize(export(make(), example(), "torchscript"))


def test_half_precision_survives() -> None:
    make, example = NETWORKS["resnet"]
    model = export(make().half(), example().half(), "torchscript")
    text = linearize(model)
    assert text.replace("in t10 ", "in ") == linearize(export(make(), example(), "torchscript"))
    parsed = parse(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert {value.type.tensor_type.elem_type for value in parsed.graph.input} == {TensorProto.FLOAT16}


def test_mixed_precision_and_constants_of_all_kinds_survive() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"]),
        helper.make_node("Mul", ["a", "half"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["c", "w"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=TensorProto.DOUBLE),
        helper.make_node("Pow", ["e", "two"], ["f"]),
        helper.make_node("Clip", ["f", "", "top"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((50, 8), np.float16), "table"),
        numpy_helper.from_array(np.float16(0.5), "half"),
        numpy_helper.from_array(np.zeros((8, 4), np.float32), "w"),
        numpy_helper.from_array(np.float64(2.5), "two"),
        numpy_helper.from_array(np.float64("inf"), "top"),
    ]
    model = _model(nodes, constants, x=(TensorProto.INT64, ["n", 6]), y=(TensorProto.DOUBLE, None))
    text = linearize(model)
    assert "Gather(%t10:50x8,~)" in text
    parsed = parse(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert signature(parsed) == signature(model)


def test_operators_of_other_vendors_are_spelled() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Swirl", ["a"], ["b"], domain="com.vendor", strength=3, mode="left|right"),
        helper.make_node("Conv", ["b", "w2", "bias"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["y"], domain="com.vendor"),
    ]
    constants = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in {"w": (4, 3, 3, 3), "w2": (6, 4, 1, 1), "bias": (6,), "w3": (5, 5)}.items()
    ]
    model = _model(nodes, constants, x=(TensorProto.FLOAT, [1, 3, 8, 8]), y=(TensorProto.FLOAT, None))
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))
    text = linearize(model)
    assert "com.vendor::Swirl mode='left|right' strength=3" in text
    read = [(node.domain, node.op_type, len(node.input)) for node in parse(text).graph.node]
    assert read == [("", "Conv", 2), ("com.vendor", "Swirl", 1), ("", "Conv", 3), ("com.vendor", "Conv", 2)]
    assert linearize(parse(text)) == text


@pytest.mark.parametrize("constant", [np.zeros((4, 5), np.float32), np.array([3, 4])])
@pytest.mark.parametrize("read", [True, False])
def test_weights_and_constants_may_be_outputs(constant: np.ndarray, read: bool) -> None:
    read = read and constant.ndim == 2
    node = helper.make_node("MatMul", ["x", "c"], ["y"]) if read else helper.make_node("Relu", ["x"], ["y"])
    stored = numpy_helper.from_array(constant, "c")
    model = _model([node], [stored], x=(TensorProto.FLOAT, [1, 4]), y=(TensorProto.FLOAT, [1, 5 if read else 4]))
    model.graph.output.append(helper.make_tensor_value_info("c", stored.data_type, constant.shape))
    onnx.checker.check_model(model, full_check=True)
    parsed = parse(linearize(model))
    onnx.checker.check_model(parsed, full_check=True)
    assert len(parsed.graph.output) == 2 and linearize(parsed) == linearize(model)
    if constant.dtype == np.float32:  # a returned constant reads like a weight: its value is not written
        assert signature(parsed) == signature(model)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3))
@example("it's", ["a", "b"])
@example("1' y='2", ["x', 'y", '"'])
@example(" @b <1", ["(", ")|Relu", "\n"])
def test_any_string_survives(mode: str, names: list[str]) -> None:
    node = helper.make_node("Swirl", ["x"], ["y"], domain="com.vendor", mode=mode, names=names)
    model = _model([node], [], x=(TensorProto.FLOAT, [1, 3, 8, 8]), y=(TensorProto.FLOAT, None))
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))
    (read,) = parse(linearize(model)).graph.node
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in read.attribute}
    assert found == {"mode": mode.encode(), "names": [name.encode() for name in names]}
    assert read.op_type == "Swirl" and linearize(parse(linearize(model))) == linearize(model)


def test_functions_with_attributes_are_inlined() -> None:
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function("mine", "Act", ["x"], ["y"], [leaky], [helper.make_opsetid("", 18)], ["slope"])
    nodes = [
        helper.make_node("Act", [a], [b], domain="mine", slope=s) for a, b, s in (("x", "a", 0.5), ("a", "y", 0.25))
    ]
    model = _model(nodes, [], x=(TensorProto.FLOAT, [1, 4]), y=(TensorProto.FLOAT, None))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(function)
    assert linearize(model) == "in 4\nLeakyRelu alpha=0.5|LeakyRelu alpha=0.25"


@pytest.mark.parametrize("functions", [True, False])
def test_weights_elsewhere_are_not_needed(tmp_path: Path, functions: bool) -> None:
    space = search_spaces.get("nasbench201", channels=4, cells=1)
    arch = space.sample(np.random.default_rng(0))
    model = space.to_onnx(arch, weights=True, functions=functions)
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    stored = load_onnx(tmp_path / "net.onnx")
    assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in stored.graph.initializer)
    assert linearize(stored) == linearize(space.to_onnx(arch, functions=functions))
    (tmp_path / "w.bin").unlink()
    assert linearize(load_onnx(tmp_path / "net.onnx")) == linearize(space.to_onnx(arch, functions=functions))


def test_target_shapes_elsewhere_are_read(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([0, 2, -1]), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = _model(nodes, [shape], x=(TensorProto.FLOAT, [1, 8]), y=(TensorProto.FLOAT, None))
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert linearize(load_onnx(tmp_path / "net.onnx")) == "in 8\nReshape(~,=[0;2;-1])"


@pytest.mark.parametrize("outlining", [True, False])
def test_control_flow_is_refused(outlining: bool) -> None:
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "b", [], [value])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    model = _model(nodes, [], x=(TensorProto.FLOAT, [1, 8]), y=(TensorProto.FLOAT, None))
    with pytest.raises(InvalidGraphError, match=r"'If' runs a subgraph.*export the model without control flow"):
        linearize(model, outlining=outlining)


def test_reading_what_nothing_computes_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "ghost"], ["y"])]
    model = _model(nodes, [], x=(TensorProto.FLOAT, [1, 8]), y=(TensorProto.FLOAT, None))
    with pytest.raises(InvalidGraphError, match="'Add' reads 'ghost'"):
        linearize(model)


def test_broken_files_are_named(tmp_path: Path) -> None:
    space = search_spaces.get("nasbench201", channels=4, cells=1)
    content = space.to_onnx(space.sample(np.random.default_rng(0)), weights=True).SerializeToString()
    for name, data in {
        "half.onnx": content[: len(content) // 2],
        "empty.onnx": b"",
        "text.onnx": b"not a model",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidGraphError, match=f"{name} is not an ONNX file, or is truncated"):
            load_onnx(tmp_path / name)
    with pytest.raises(InvalidGraphError, match="no such file"):
        load_onnx(tmp_path / "absent.onnx")


def _model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    *,
    x: tuple[int, list[int | str]],
    y: tuple[int, None],
) -> onnx.ModelProto:
    inputs, outputs = [helper.make_tensor_value_info("x", *x)], [helper.make_tensor_value_info("y", *y)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _restore_weights(model: onnx.ModelProto, source: onnx.ModelProto) -> bool:
    """Give ``model`` back the weights of ``source``; False if some are results of nodes that were folded."""
    stored = {tensor.name: tensor for tensor in source.graph.initializer}
    data = {value.name for value in data_inputs(model)}
    weights = [value for value in model.graph.input if value.name not in data]
    if any(value.name not in stored for value in weights):
        return False
    model.graph.initializer.extend([stored[value.name] for value in weights])
    for value in weights:
        model.graph.input.remove(value)
    return True
