"""ONNX files: what a stranger's file holds, without its weights where these lie in files of their own."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper

from search_spaces.errors import InvalidGraphError
from search_spaces.tensors import CONSTANT_LIMIT


def load_onnx(path: str | Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Weights stored in other files are not read; small constants stored there (target shapes, axes) are, if the files
    are at hand.

    Raises:
        InvalidGraphError: There is no such file, it is truncated, or it holds no ONNX graph; the message names it.
    """
    from google.protobuf.message import DecodeError

    path = Path(path)
    if not path.is_file():
        raise InvalidGraphError(f"{path}: no such file")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError) as error:
        raise InvalidGraphError(f"{path} is not an ONNX file, or is truncated: {error}") from error
    if not model.graph.output or not model.opset_import:  # other binaries may decode as a model without content
        raise InvalidGraphError(f"{path} is not an ONNX file, or is truncated: it holds no graph with an output")
    for tensor in model.graph.initializer:
        if _is_small_constant(tensor) and _at_hand(tensor, path.parent):
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    return model


def _is_small_constant(tensor: onnx.TensorProto) -> bool:
    integral = tensor.data_type in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return tensor.data_location == TensorProto.EXTERNAL and prod(tensor.dims) <= (CONSTANT_LIMIT if integral else 4)


def _at_hand(tensor: onnx.TensorProto, folder: Path) -> bool:
    return any(entry.key == "location" and (folder / entry.value).is_file() for entry in tensor.external_data)
