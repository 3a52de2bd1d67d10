"""Structural signature of a flat ONNX graph: equal for isomorphic graphs, an independent judge of round trips."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import onnx
import onnx.defs
from onnx import helper, numpy_helper

from search_spaces.graph import data_inputs, inline


def signature(model: onnx.ModelProto, *, commutative: bool = False) -> tuple[Counter[str], tuple[str, ...]]:
    """Multiset of node hashes (each covers everything the node depends on), and the hashes of the outputs.

    With ``commutative``, swapped operands of sums, products and extrema count as equal.
    """
    flat = inline(model)
    hashes: dict[str, str] = {"": "absent"}
    data = [value.name for value in data_inputs(flat)]
    for value in flat.graph.input:
        dims = [d.dim_value if d.HasField("dim_value") else "?" for d in value.type.tensor_type.shape.dim]
        hashes[value.name] = f"data{data.index(value.name)}:{dims[1:]}" if value.name in data else f"weight:{dims}"
    for tensor in flat.graph.initializer:
        hashes[tensor.name] = _constant(tensor)
    found: Counter[str] = Counter()
    for node in flat.graph.node:
        if node.op_type == "Constant":
            hashes[node.output[0]] = _constant(_value(node))
            continue
        operands = [hashes[name] for name in node.input]
        if commutative and node.op_type in ("Add", "Mul", "Sum", "Max", "Min", "Mean"):
            operands.sort()
        body = f"{node.domain}:{node.op_type}({operands}){_attributes(node)}"
        digest = sha256(body.encode()).hexdigest()
        found[digest] += 1
        for position, name in enumerate(node.output):
            hashes[name] = f"{digest}.{position}"
    return found, tuple(hashes[value.name] for value in flat.graph.output)


def _constant(tensor: onnx.TensorProto) -> str:
    array = numpy_helper.to_array(tensor)
    if array.size > (64 if array.dtype.kind in "ib" else 1):
        return f"weight:{list(array.shape)}"
    return f"constant:{array.dtype}:{array.shape}:{array.tolist()}"


def _value(node: onnx.NodeProto) -> onnx.TensorProto:
    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    value = helper.get_attribute_value(attribute)
    kind = onnx.TensorProto.FLOAT if "float" in attribute.name else onnx.TensorProto.INT64
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return helper.make_tensor("c", kind, [len(values)] if attribute.name.endswith("s") else [], values)


def _attributes(node: onnx.NodeProto) -> str:
    """Attributes, with those at the operator's default (or at the default of an absent kernel, pad, …) left out."""
    schema = onnx.defs.get_schema(node.op_type, 18, node.domain)
    shown = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        default = schema.attributes[attribute.name].default_value
        if default.type and helper.get_attribute_value(default) == value:
            continue
        neutral = {"strides": 1, "dilations": 1, "pads": 0}.get(attribute.name)
        if neutral is not None and set(value) == {neutral}:
            continue
        if isinstance(value, onnx.TensorProto):
            value = _constant(value)
        shown[attribute.name] = value
    return str(sorted(shown.items()))
