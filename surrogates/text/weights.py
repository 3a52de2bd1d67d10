"""Shapes of weights that a text does not show, because they follow from the operator and its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import TensorProto

from search_spaces.tensors import Tensor

CONVOLUTIONS = ("Conv", "ConvTranspose")
#: Operators whose weight has one free dimension (output channels or features).
FREE_DIMENSION = (*CONVOLUTIONS, "Gemm", "MatMul")
#: Operators whose third input, a bias, is shown as ``b``.
OPTIONAL_BIAS = (*CONVOLUTIONS, "Gemm", "LayerNormalization")
_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def weight_type(inputs: Sequence[Tensor | None]) -> int:
    """Element type of a weight that shows none: that of the first computed input if it is a float, else float32."""
    source = next((t for t in inputs if t is not None and t.computed), None)
    return source.elem_type if source is not None and source.elem_type in _FLOATING else TensorProto.FLOAT


def default_weight(op_type: str, position: int, inputs: Sequence[Tensor | None]) -> tuple[int, ...] | None:
    """The weight shape that needs no slot: one value per channel of the first computed input."""
    source = next((t for t in inputs if t is not None and t.computed), None)
    if source is None or not source.shape or len(source.shape) < 2:
        return None
    if len(source.shape) == 4:
        channels = source.shape[1]
        return (channels, 1, 1) if isinstance(channels, int) else None
    last = source.shape[-1]
    return (last,) if isinstance(last, int) else None


def input_features(op_type: str, shape: Sequence[int | str | None]) -> int | None:
    """Channels (convolutions) or features (matrix products) of an input."""
    axis = 1 if op_type in CONVOLUTIONS else -1
    dim = shape[axis] if len(shape) > 1 else None
    return dim if isinstance(dim, int) else None


def free_dimension(op_type: str, shape: Sequence[Any], attributes: dict[str, Any]) -> int | None:
    """Output channels or features of a weight of ``shape``."""
    if op_type == "Conv" or (op_type == "Gemm" and attributes.get("transB")):
        return int(shape[0])
    if op_type == "ConvTranspose":
        return int(shape[1]) * int(attributes.get("group", 1))
    return int(shape[1]) if len(shape) == 2 else None


def weight_shape(
    op_type: str, x: Sequence[int | str | None], free: int, kernel: Sequence[Any], attributes: dict[str, Any]
) -> tuple[int, ...] | None:
    """Shape of the weight with output dimension ``free`` for an input of shape ``x``."""
    features = input_features(op_type, x)
    if features is None:
        return None
    group = int(attributes.get("group", 1))
    match op_type:
        case "Conv":
            return (free, features // group, *kernel)
        case "ConvTranspose":
            return (features, free // group, *kernel)
        case "Gemm" if attributes.get("transB"):
            return (free, features)
        case _:
            return (features, free)
