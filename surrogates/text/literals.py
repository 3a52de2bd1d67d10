"""Small constants as text: ``[1;-1]``, ``3``, ``0.5f`` — and read back."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search_spaces.tensors import Tensor


def literal(tensor: Tensor) -> str:
    """A small constant: ``[1;-1]``, ``3``, ``0.5f``; types other than int64 and float32 carry theirs (``t9:1``)."""
    assert tensor.value is not None
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    array = np.frombuffer(tensor.value, dtype=dtype)
    if tensor.elem_type == TensorProto.FLOAT:
        values = [float_text(v) + "f" for v in array.tolist()]
    elif dtype.kind in "iub":
        values = [str(int(v)) for v in array.tolist()]
    else:  # other widths of floats; bfloat16 has kind V
        values = [repr(float(v)) for v in array.tolist()]
    shape = tensor.shape or ()
    prefix = "" if tensor.elem_type in (TensorProto.INT64, TensorProto.FLOAT) else f"t{tensor.elem_type}:"
    body = values[0] if not shape else "[" + ";".join(values) + "]"
    if len(shape) > 1:
        body += "x".join(map(str, shape))
    return prefix + body


def read_literal(text: str) -> onnx.TensorProto:
    """The tensor of a ``literal``."""
    if text.startswith("t"):
        kind, text = text[1:].split(":", 1)
        data_type = int(kind)
    else:
        data_type = TensorProto.FLOAT if "f" in text else TensorProto.INT64
    listed = text.startswith("[")
    inner, _, dims = text[1:].partition("]") if listed else (text, "", "")
    values = [part for part in inner.split(";") if part]
    if data_type == TensorProto.FLOAT:
        values = [part.removesuffix("f") for part in values]
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    array = np.array([int(v) if dtype.kind in "iub" else float(v) for v in values], dtype=dtype)
    if dims:
        array = array.reshape([int(d) for d in dims.split("x")])
    elif not listed:
        array = array.reshape(())
    return numpy_helper.from_array(array)


def float_text(value: float) -> str:
    """The shortest text that reads back to the same 32-bit float."""
    return str(np.float32(value)).removesuffix(".0")
