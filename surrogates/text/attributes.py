"""Attributes of operators as words: ``k3 s2 dw``, ``axis=1`` — and read back.

What equals its default, and "same" padding, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, helper, numpy_helper

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import OPSET
from search_spaces.tensors import Tensor
from surrogates.text.literals import float_text
from surrogates.text.weights import CONVOLUTIONS, input_features

_SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
_SPECIAL = re.compile(r"[^A-Za-z0-9_.,:;/+|= -]")
_SPATIAL_ATTRIBUTES = {"kernel_shape", "strides", "pads", "dilations", "group"}


def attribute_words(node: onnx.NodeProto, inputs: Sequence[Tensor | None]) -> list[str]:
    """Attributes that differ from their defaults, in short form for convolutions and pools."""
    words, rest = [], {attribute.name: attribute for attribute in node.attribute}
    if node.op_type in _SPATIAL and node.domain in ("", "ai.onnx"):
        values = {k: helper.get_attribute_value(v) for k, v in rest.items() if k in _SPATIAL_ATTRIBUTES}
        words += _spatial_words(node.op_type, values, inputs, automatic="auto_pad" in rest)
        rest = {name: attribute for name, attribute in rest.items() if name not in _SPATIAL_ATTRIBUTES}
    defaults = _defaults(node.op_type, node.domain)
    for name in sorted(rest):
        text = _attribute_text(node.op_type, rest[name])
        if text != defaults.get(name):
            words.append(f"{name}={text}")
    return words


def _spatial_words(op: str, values: dict[str, Any], inputs: Sequence[Tensor | None], *, automatic: bool) -> list[str]:
    weight = inputs[1] if op in CONVOLUTIONS and len(inputs) > 1 else None
    kernel = list(values.get("kernel_shape") or (weight.shape[2:] if weight is not None and weight.shape else ()))
    rank = len(kernel)
    strides, dilations = list(values.get("strides") or [1] * rank), list(values.get("dilations") or [1] * rank)
    x = inputs[0] if inputs else None
    known = x is not None and x.shape is not None  # else the reader cannot tell 3 from 3x3
    words = [f"k{_sizes(kernel, short=known)}"]
    if strides != [1] * rank:
        words.append(f"s{_sizes(strides, short=known)}")
    if dilations != [1] * rank:
        words.append(f"d{_sizes(dilations, short=known)}")
    pads = list(values.get("pads") or [0] * 2 * rank)
    if not automatic and pads != same_pads(kernel, dilations):
        words.append(f"p{_sizes(pads, short=known)}")
    group = int(values.get("group", 1))
    if group > 1:
        depthwise = x is not None and x.shape is not None and input_features(op, x.shape) == group
        words.append("dw" if depthwise else f"g{group}")
    return words


def same_pads(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding that keeps the size at stride 1; none where no symmetric padding does."""
    half = [d * (k - 1) // 2 if d * (k - 1) % 2 == 0 else 0 for k, d in zip(kernel, dilations, strict=True)]
    return half * 2


def _sizes(values: Sequence[int], *, short: bool) -> str:
    return str(values[0]) if len(set(values)) == 1 and short else "x".join(map(str, values))


@lru_cache(maxsize=1024)
def _schema(op_type: str, domain: str) -> onnx.defs.OpSchema | None:
    """What ONNX says of an operator: at our opset, or where it came later, in the newest."""
    for opset in (OPSET, onnx.defs.onnx_opset_version()):
        try:
            return onnx.defs.get_schema(op_type, opset, domain)
        except onnx.defs.SchemaError:
            continue
    return None


@lru_cache(maxsize=1024)
def _defaults(op_type: str, domain: str) -> dict[str, str]:
    schema = _schema(op_type, domain)
    if schema is None:
        return {}
    return {
        name: _attribute_text(op_type, attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type != AttributeProto.UNDEFINED
    }


def _attribute_text(op_type: str, attribute: AttributeProto) -> str:
    match attribute.type:
        case AttributeProto.INT:
            return str(attribute.i)
        case AttributeProto.FLOAT:
            return float_text(attribute.f)
        case AttributeProto.STRING:
            return _quoted(attribute.s)
        case AttributeProto.INTS:
            return "[" + ",".join(map(str, attribute.ints)) + "]"
        case AttributeProto.FLOATS:
            return "[" + ",".join(map(float_text, attribute.floats)) + "]"
        case AttributeProto.STRINGS:
            return "[" + ",".join(map(_quoted, attribute.strings)) + "]"
        case AttributeProto.TENSOR:
            array = numpy_helper.to_array(attribute.t)
            values = ",".join(float_text(v) if array.dtype.kind == "f" else str(int(v)) for v in array.ravel().tolist())
            return f"tensor:{attribute.t.data_type}:{'x'.join(map(str, array.shape))}:{values}"
        case _:
            kind = AttributeProto.AttributeType.Name(attribute.type)
            raise InvalidGraphError(
                f"attribute {attribute.name!r} of {op_type!r} is a {kind}, which has no text form; "
                "export the model without control flow (no If, Loop or Scan)"
            )


def _quoted(content: bytes) -> str:
    """A string in single quotes, as a Python literal in which nothing that the text gives a meaning stands bare."""
    return "'" + _SPECIAL.sub(_escaped, content.decode("utf-8", "backslashreplace")) + "'"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- reading back -----------------------------------------------------------------------------------------------------


def read_attributes(op_type: str, domain: str, words: Sequence[str], x: Sequence[Any] | None) -> dict[str, Any]:
    """Attributes from the words of a spelling; ``x`` is the shape of the first input (None if unknown)."""
    attributes: dict[str, Any] = {}
    spatial = {word[0]: word[1:] for word in words if "=" not in word and word != "dw"} if op_type in _SPATIAL else {}
    if spatial and not domain:
        rank = len(x) - 2 if x is not None else spatial["k"].count("x") + 1
        kernel = _read_sizes(spatial["k"], rank)
        attributes["kernel_shape"] = kernel
        attributes["strides"] = _read_sizes(spatial.get("s", "1"), rank)
        dilations = _read_sizes(spatial.get("d", "1"), rank)
        if "d" in spatial:  # average pools know none before opset 19
            attributes["dilations"] = dilations
        if not any(word.startswith("auto_pad=") for word in words):
            pads = spatial.get("p")
            attributes["pads"] = same_pads(kernel, dilations) if pads is None else _read_sizes(pads, 2 * rank)
        if "g" in spatial:
            attributes["group"] = int(spatial["g"])
        if "dw" in words:
            channels = input_features(op_type, x) if x is not None else None
            if channels is None:
                raise InvalidGraphError(f"'{op_type} … dw' needs an input with a known number of channels")
            attributes["group"] = channels
    for word in words:
        name, sign, text = word.partition("=")
        if sign:
            attributes[name] = _read_value(op_type, domain, name, text)
    return attributes


def _read_sizes(text: str, count: int) -> list[int]:
    values = [int(part) for part in text.split("x")]
    return values * count if len(values) == 1 else values


def _read_value(op_type: str, domain: str, name: str, text: str) -> Any:
    import ast

    kind = _attribute_kind(op_type, domain, name)
    if text.startswith("tensor:"):
        _, data_type, shape, values = text.split(":")
        dtype = helper.tensor_dtype_to_np_dtype(int(data_type))
        array = np.array([float(v) if dtype.kind == "f" else int(v) for v in values.split(",")], dtype=dtype)
        return numpy_helper.from_array(array.reshape([int(d) for d in shape.split("x") if d]))
    if text.startswith(("'", "['")):
        return ast.literal_eval(text)
    floating = kind in (AttributeProto.FLOAT, AttributeProto.FLOATS)
    if text.startswith("["):
        return [float(v) if floating else int(v) for v in text[1:-1].split(",") if v]
    return float(text) if floating or any(c in text for c in ".enf") else int(text)


@lru_cache(maxsize=4096)
def _attribute_kind(op_type: str, domain: str, name: str) -> int | None:
    schema = _schema(op_type, domain)
    attribute = schema.attributes.get(name) if schema is not None else None
    return int(attribute.type) if attribute is not None else None  # type: ignore[call-overload]
