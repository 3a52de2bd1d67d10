"""Types of tensors, and what one ONNX operator makes of them (``onnx.shape_inference``, remembered)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import prod
from typing import NamedTuple

import onnx
import onnx.defs
import onnx.shape_inference
from onnx import TensorProto, numpy_helper

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import OPSET

Dim = int | str | None
#: Integer constants up to this many values take part in inference (target shapes, axes, pads).
CONSTANT_LIMIT = 64


class Tensor(NamedTuple):
    """Type of a tensor.

    Attributes:
        elem_type: ONNX element type.
        shape: Dimensions, a symbolic one kept as text; None if unknown.
        value: Raw value of a small constant (integers, or one float).
        parameter: Whether it is a weight that exactly one node of its graph or function reads.
    """

    elem_type: int
    shape: tuple[Dim, ...] | None
    value: bytes | None = None
    parameter: bool = False

    @property
    def computed(self) -> bool:
        """Whether it is neither a weight nor a known constant."""
        return not self.parameter and self.value is None

    @property
    def size(self) -> int:
        """Number of elements for batch 1; unknown dimensions count as 1."""
        total = 1
        for dim in self.shape or ():
            total *= dim if isinstance(dim, int) else 1
        return total


def constant(tensor: onnx.TensorProto, *, exact: bool = False) -> Tensor:
    """The type of an initialiser or constant; the value is kept if small, otherwise it counts as a weight.

    Args:
        tensor: The tensor.
        exact: It is no weight but a setting (``exact_operands``): several floats are kept, too.
    """
    integral = tensor.data_type in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    limit = CONSTANT_LIMIT if integral or exact else 1
    known = tensor.data_location != TensorProto.EXTERNAL and tensor.data_type != TensorProto.STRING
    value = None
    if known and prod(tensor.dims) <= limit:
        value = numpy_helper.to_array(tensor).tobytes()
    return Tensor(tensor.data_type, tuple(tensor.dims), value, parameter=value is None)


def exact_operands(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of float vectors that are settings, not weights: regions and scales of ``Resize``."""
    return {name for node in nodes if node.op_type == "Resize" for name in node.input[1:3]}


def infer(node: onnx.NodeProto, inputs: tuple[Tensor | None, ...], opset: int = OPSET) -> tuple[Tensor, ...]:
    """Outputs of one operator on the given tensors; remembered for equal operators and tensors.

    Raises:
        InvalidGraphError: An operator that ONNX does not know at ``opset``, or inputs that do not fit it.
    """
    return infer_content(operator_content(node), len(node.output), inputs, opset)


def operator_content(node: onnx.NodeProto) -> bytes:
    """What an operator is, whatever its tensors are called: equal for equal operators with equal attributes."""
    bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    bare.attribute.extend(node.attribute)
    return bare.SerializeToString()


@lru_cache(maxsize=65536)
def infer_content(content: bytes, n_outputs: int, inputs: tuple[Tensor | None, ...], opset: int) -> tuple[Tensor, ...]:
    """``infer`` for an operator given by ``operator_content``."""
    node = onnx.NodeProto.FromString(content)
    if node.op_type == "Constant" and not node.domain:
        value = constant_tensor(node)
        return (Tensor(TensorProto.STRING, None) if value is None else constant(value),)
    if node.domain not in ("", "ai.onnx"):
        return (Tensor(0, None),) * n_outputs  # an operator of another vendor: nothing is known of its results
    if any(tensor is not None and tensor.elem_type == TensorProto.UNDEFINED for tensor in inputs):
        return (Tensor(0, None),) * n_outputs  # nor of what follows from them
    node.input.extend(f"i{k}" if tensor is not None else "" for k, tensor in enumerate(inputs))
    node.output.extend(f"o{k}" for k in range(n_outputs))
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError as error:
        raise InvalidGraphError(f"operator {node.op_type!r} is not known to ONNX opset {opset}") from error
    types, data = {}, {}
    for k, tensor in enumerate(inputs):
        if tensor is None:
            continue
        types[f"i{k}"] = _type_proto(tensor)
        if tensor.value is not None:
            dims = [dim for dim in tensor.shape or () if isinstance(dim, int)]
            data[f"i{k}"] = TensorProto(data_type=tensor.elem_type, dims=dims, raw_data=tensor.value)
    try:
        inferred = onnx.shape_inference.infer_node_outputs(schema, node, types, data)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        shapes = [tensor.shape if tensor else None for tensor in inputs]
        raise InvalidGraphError(f"operator {node.op_type!r} does not fit its inputs {shapes}: {error}") from error
    return tuple(
        tensor_type_of(inferred[f"o{k}"]) if f"o{k}" in inferred else Tensor(0, None) for k in range(n_outputs)
    )


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The value of a ``Constant`` node as a tensor of its output's name; None for strings, sparse and other nodes."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attribute, name = node.attribute[0], node.output[0] if node.output else "c"
    match attribute.name:
        case "value":
            tensor = onnx.TensorProto.FromString(attribute.t.SerializeToString())
            tensor.name = name
            return tensor
        case "value_float":
            return onnx.helper.make_tensor(name, TensorProto.FLOAT, (), [attribute.f])
        case "value_floats":
            return onnx.helper.make_tensor(name, TensorProto.FLOAT, (len(attribute.floats),), attribute.floats)
        case "value_int":
            return onnx.helper.make_tensor(name, TensorProto.INT64, (), [attribute.i])
        case "value_ints":
            return onnx.helper.make_tensor(name, TensorProto.INT64, (len(attribute.ints),), attribute.ints)
        case _:
            return None


def _type_proto(tensor: Tensor) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(tensor.elem_type, tensor.shape)


def tensor_type_of(proto: onnx.TypeProto) -> Tensor:
    """The type that ``proto`` declares."""
    tensor_type = proto.tensor_type
    if not tensor_type.HasField("shape"):
        return Tensor(tensor_type.elem_type, None)
    return Tensor(tensor_type.elem_type, tuple(_dim(dim) for dim in tensor_type.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None
