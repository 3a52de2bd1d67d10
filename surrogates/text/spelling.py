"""How one ONNX operator is spelled: ``Conv k3 s2 dw``, ``Mul(~,=0.5)``, ``Softmax axis=1`` — and read back.

What a reader of the text can work out is left out: attributes at their defaults, "same" padding, and the shapes of
weights that follow from the operator's input. What cannot be worked out is a *slot*, marked ``SLOT`` in the spelling:
the output channels of a convolution that changes them, the shape of a weight of no known form. Slots are filled where
the operator stands in the main graph and moved to the call where it stands in a function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx
from onnx import helper

from search_spaces.tensors import Tensor
from surrogates.text.attributes import attribute_words
from surrogates.text.literals import literal
from surrogates.text.weights import (
    CONVOLUTIONS,
    FREE_DIMENSION,
    OPTIONAL_BIAS,
    default_weight,
    free_dimension,
    input_features,
    weight_shape,
    weight_type,
)

#: Stands for a value that the line or the call supplies; never appears in finished text.
SLOT = "\0"
#: Operand signs: a computed tensor, a fresh weight, an absent input, a constant (followed by its value).
DATA, WEIGHT, ABSENT, CONSTANT = "~", "%", "_", "="


class Spelling(NamedTuple):
    """An operator as text.

    Attributes:
        text: The spelling with ``SLOT`` marks.
        slots: Values of the slots, empty text where the default holds.
        data: Positions of the inputs that are computed tensors.
    """

    text: str
    slots: tuple[str, ...]
    data: tuple[int, ...]


def spell(node: onnx.NodeProto, inputs: Sequence[Tensor | None]) -> Spelling:
    """Spell ``node`` on the given tensors.

    Raises:
        InvalidGraphError: An attribute that has no text form (a subgraph, a sparse tensor).
    """
    signs = tuple([_sign(tensor) for tensor in inputs])
    foreign = node.domain not in ("", "ai.onnx")
    op, weights = "" if foreign else node.op_type, weight_type(inputs)
    usual = signs == usual_signs(op, len(signs)) and _usual_vectors(node, inputs)
    usual &= all(t.elem_type == weights for t in inputs if t is not None and t.parameter)
    words = [f"{node.domain}::{node.op_type}" if foreign else node.op_type]
    words += attribute_words(node, inputs)
    text, slots = " ".join(words), []
    if usual:
        if op in FREE_DIMENSION and WEIGHT in signs:
            text += SLOT
            slots.append(_free_slot(node, inputs))
        if op in OPTIONAL_BIAS and len(signs) == 3:
            text += " b"
    else:
        operands = []
        for position, (sign, tensor) in enumerate(zip(signs, inputs, strict=True)):
            if sign == WEIGHT:
                assert tensor is not None
                operands.append(WEIGHT + SLOT)
                default = default_weight(op, position, inputs) if tensor.elem_type == weights else None
                slots.append("" if tensor.shape == default else shape_text(tensor, weights))
            elif sign == CONSTANT:
                assert tensor is not None
                operands.append(CONSTANT + literal(tensor))
            else:
                operands.append(sign)
        text += f"({','.join(operands)})"
    if len(node.output) > 1:
        text += f" >{''.join('1' if name else '0' for name in node.output)}"
    return Spelling(text, tuple(slots), tuple(i for i, sign in enumerate(signs) if sign == DATA))


def usual_signs(op_type: str, arity: int) -> tuple[str, ...]:
    """The operand signs that a spelling does not show."""
    if op_type in (*CONVOLUTIONS, "Gemm", "MatMul", "BatchNormalization", "LayerNormalization") and arity > 1:
        return (DATA, *[WEIGHT] * (arity - 1))
    return (DATA,) * arity


def _usual_vectors(node: onnx.NodeProto, inputs: Sequence[Tensor | None]) -> bool:
    """Whether the vectors beside a weight (bias, statistics) have the shape that a reader assumes."""
    op, x = node.op_type, inputs[0] if inputs else None
    if op in ("BatchNormalization", "LayerNormalization"):
        if x is None or x.shape is None or len(x.shape) < 2:
            return False
        size = x.shape[1 if op == "BatchNormalization" else -1]
        return all(tensor is not None and tensor.shape == (size,) for tensor in inputs[1:])
    if op in OPTIONAL_BIAS and len(inputs) == 3 and inputs[1] is not None and inputs[2] is not None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in ("group", "transB")}
        return inputs[2].shape == (free_dimension(op, inputs[1].shape or (0, 0), attributes),)
    return True


def _sign(tensor: Tensor | None) -> str:
    if tensor is None:
        return ABSENT
    if tensor.parameter:
        return WEIGHT
    return CONSTANT if tensor.value is not None else DATA


def _free_slot(node: onnx.NodeProto, inputs: Sequence[Tensor | None]) -> str:
    """The free dimension of a weight (empty if it equals the input's), or the whole shape where that is not enough."""
    x, weight = inputs[0], inputs[1]
    assert x is not None and weight is not None
    if x.shape is None or weight.shape is None:
        return " w" + "x".join(map(str, weight.shape or ()))
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in ("group", "transB")}
    free = free_dimension(node.op_type, weight.shape, attributes)
    kernel = weight.shape[2:]
    if free is not None and weight_shape(node.op_type, x.shape, free, kernel, attributes) == weight.shape:
        return "" if free == input_features(node.op_type, x.shape) else f" c{free}"
    return " w" + "x".join(map(str, weight.shape))


def shape_text(tensor: Tensor, usual_type: int) -> str:
    """``64x3x3x3``, or ``t10:64x3x3x3`` where the element type is not the usual one."""
    kind = "" if tensor.elem_type == usual_type else f"t{tensor.elem_type}:"
    return kind + ("x".join(map(str, tensor.shape or ())) or "scalar")
