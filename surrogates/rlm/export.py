"""The compact encoder as an ONNX graph: from tokens and wiring to the decoder's keys and values of the graph.

Written out operator by operator (``WiredEncoder`` and ``RLMNetwork.remember`` once more; a test holds them equal):
torch's exporter takes a minute where this takes milliseconds, and leaves the runtime a graph that it fuses less well.
Batch and length are dynamic. Inputs are those of ``GraphBatch``; the output ``memory`` is ``(2 x decoder layers, b,
heads, t, width / heads)``: keys and values of the first layer, then of the second, … States at padding are arbitrary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from search_spaces.errors import UsageError
from surrogates.rlm.attention import rotary
from surrogates.rlm.config import ModelConfig
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.wired import EncoderLayer, Flow, WiredEncoder

INPUTS, OUTPUT = ("ids", "present", "producers", "ancestors", "operands"), "memory"
_OPSET, _IR_VERSION = 20, 10  # Gelu came with opset 20; newer files are refused by older runtimes
_NEVER = -1e9  # finite: a row that may look nowhere stays a number

Attributes = dict[str, Any]


def export_encoder(network: RLMNetwork, path: str | Path, *, int8: bool = False) -> Path:
    """Write the encoder of ``network``, with the projections to the decoder's keys and values, as an ONNX file.

    Args:
        network: A network with the wired encoder.
        path: The file to write.
        int8: Quantise weights to 8 bits, one scale a column, and the inputs of matrix products as they come (dynamic
            quantisation); attention and normalisation stay float32.

    Raises:
        UsageError: The network has another encoder.
    """
    model, path = encoder_to_onnx(network), Path(path)
    if not int8:
        onnx.save(model, path)
        return path
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # 7 of the 8 bits: processors without VNNI add pairs of products in 16 bits, which would overflow
    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    return path


def encoder_to_onnx(network: RLMNetwork) -> onnx.ModelProto:
    """The graph that ``export_encoder`` writes.

    Raises:
        UsageError: The network has another encoder.
    """
    encoder = network.encoder
    if not isinstance(encoder, WiredEncoder):
        raise UsageError(
            "only the wired encoder runs on ONNX Runtime; with another one choose "
            'DecodingConfig(encoder_runtime="torch")'
        )
    graph, config = _Graph(), network.config
    ids = graph.inputs["ids"]
    width, heads = config.width, len(config.heads)
    mask = _mask(graph, config)
    rotation = _rotation(graph, config, ids)
    wires = _wires(graph) if config.flow else None
    x = graph.add("Gather", [graph.tensor(encoder.embedding.weight), ids])
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        x = graph.add("Add", [x, _attention(graph, layer, x, mask, rotation)])
        if layer.flow is not None and wires is not None:
            x = graph.add("Add", [x, _flow(graph, layer.flow, x, wires)])
        hidden = _linear(graph, layer.feed_forward[0], graph.norm(layer.feed_forward_norm, x))
        x = graph.add("Add", [x, _linear(graph, layer.feed_forward[3], graph.add("Gelu", [hidden]))])
    states = graph.norm(encoder.norm, x)
    weights = torch.cat([layer.get_submodule("memory").get_parameter("weight") for layer in network.decoder])
    projected = graph.add("MatMul", [states, graph.tensor(weights.T)])
    parts = 2 * len(network.decoder)
    split = graph.reshape(projected, (0, 0, parts, heads, width // heads))
    graph.add("Transpose", [split], {"perm": (2, 0, 3, 1, 4)}, name=OUTPUT)
    return graph.model((parts, "batch", heads, "tokens", width // heads))


class _Graph:
    """Nodes and initialisers in the making."""

    def __init__(self) -> None:
        self.inputs = {name: name for name in INPUTS}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: Sequence[str], attributes: Attributes | None = None, name: str = "") -> str:
        return self.add_many(kind, inputs, 1, attributes, name)[0]

    def add_many(
        self, kind: str, inputs: Sequence[str], outputs: int, attributes: Attributes | None = None, name: str = ""
    ) -> list[str]:
        names = [name or f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **(attributes or {})))
        return names

    def tensor(self, value: Tensor | np.ndarray) -> str:
        array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else value
        name = f"weight_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, *values: int) -> str:
        return self.tensor(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self.tensor(np.array(value, dtype=np.float32))

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        return self.add("Reshape", [x, self.integers(*shape)])

    def norm(self, norm: nn.Module, x: str) -> str:
        """RMS norm in the pattern that ONNX Runtime fuses."""
        assert isinstance(norm, nn.RMSNorm)
        epsilon = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        square = self.add("Pow", [x, self.number(2.0)])
        mean = self.add("ReduceMean", [square, self.integers(-1)], {"keepdims": 1})
        root = self.add("Sqrt", [self.add("Add", [mean, self.number(epsilon)])])
        return self.add("Mul", [self.add("Div", [x, root]), self.tensor(norm.weight)])

    def model(self, shape: Sequence[int | str]) -> onnx.ModelProto:
        flat, wires = ["batch", "tokens"], ["batch", "tokens", "tokens"]
        shapes = {"ids": (TensorProto.INT64, flat), "present": (TensorProto.BOOL, flat)}
        inputs = [
            helper.make_tensor_value_info(name, *shapes.get(name, (TensorProto.BOOL, wires))) for name in self.inputs
        ]
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, list(shape))
        graph = helper.make_graph(self.nodes, "encoder", inputs, [output], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        # what the quantiser looks for: this graph needs no clean-up before
        model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        onnx.checker.check_model(model)
        return model


def _linear(graph: _Graph, linear: nn.Module, x: str) -> str:
    product = graph.add("MatMul", [x, graph.tensor(linear.get_parameter("weight").T)])
    return graph.add("Add", [product, graph.tensor(linear.get_parameter("bias"))])


def _attention(graph: _Graph, layer: EncoderLayer, x: str, mask: str, rotation: tuple[str, str]) -> str:
    """Masked self-attention ``(b, t, width)``; the division of scores is done in the weights of the queries."""
    weight = layer.qkv.weight.detach().clone()
    width = weight.shape[1]
    size = width // layer.heads
    weight[:width] *= size**-0.5
    projected = graph.add("MatMul", [graph.norm(layer.attention_norm, x), graph.tensor(weight.T)])
    split = graph.reshape(projected, (0, 0, 3, layer.heads, size))
    parts = graph.add_many("Split", [graph.add("Transpose", [split], {"perm": (2, 0, 3, 1, 4)})], 3, {"num_outputs": 3})
    q, k, v = (graph.add("Squeeze", [part, graph.integers(0)]) for part in parts)
    q, k = _rotate(graph, q, rotation), _rotate(graph, k, rotation)
    scores = graph.add("MatMul", [q, graph.add("Transpose", [k], {"perm": (0, 1, 3, 2)})])
    share = graph.add("Softmax", [graph.add("Add", [scores, mask])], {"axis": -1})
    merged = graph.add("Transpose", [graph.add("MatMul", [share, v])], {"perm": (0, 2, 1, 3)})
    return graph.add("MatMul", [graph.reshape(merged, (0, 0, width)), graph.tensor(layer.projection.weight.T)])


def _wires(graph: _Graph) -> tuple[str, str]:
    """Weights of the sums over operands and over readers; see ``wired.Wires``."""
    producers, operands = graph.inputs["producers"], graph.inputs["operands"]
    swapped: Attributes = {"perm": (0, 2, 1)}
    same_line = graph.add("And", [producers, graph.add("Transpose", [producers], swapped)])
    size = graph.add("ReduceSum", [_float(graph, same_line), graph.integers(1)], {"keepdims": 1})
    size = graph.add("Max", [size, graph.number(1.0)])
    forth = graph.add("Div", [_float(graph, operands), size])
    back = graph.add("Div", [_float(graph, graph.add("Transpose", [operands], swapped)), size])
    return forth, back


def _float(graph: _Graph, x: str) -> str:
    return graph.add("Cast", [x], {"to": TensorProto.FLOAT})


def _flow(graph: _Graph, flow: Flow, x: str, wires: tuple[str, str]) -> str:
    """``wired.Flow``."""
    x = graph.norm(flow.norm, x)
    values = graph.add("MatMul", [x, graph.tensor(flow.values.weight.T)])
    parts = graph.add_many("Split", [values], 2, {"axis": -1, "num_outputs": 2})
    arrived = [graph.add("MatMul", [weights, part]) for weights, part in zip(wires, parts, strict=True)]
    gates = graph.add("Sigmoid", [_linear(graph, flow.gates, x)])
    let_in = graph.add("Mul", [gates, graph.add("Concat", arrived, {"axis": -1})])
    return graph.add("MatMul", [let_in, graph.tensor(flow.projection.weight.T)])


def _rotate(graph: _Graph, x: str, rotation: tuple[str, str]) -> str:
    first, second = graph.add_many("Split", [x], 2, {"axis": -1, "num_outputs": 2})
    turned = graph.add("Concat", [graph.add("Neg", [second]), first], {"axis": -1})
    cosine, sine = rotation
    return graph.add("Add", [graph.add("Mul", [x, cosine]), graph.add("Mul", [turned, sine])])


def _rotation(graph: _Graph, config: ModelConfig, ids: str) -> tuple[str, str]:
    """Cosine and sine of as many positions as there are tokens."""
    tables = rotary(config.context, config.width // len(config.heads), torch.device("cpu"))
    length = graph.add("Shape", [ids], {"start": 1, "end": 2})
    zero = graph.integers(0)
    cosine, sine = (graph.add("Slice", [graph.tensor(table), zero, length, zero]) for table in tables)
    return cosine, sine


def _mask(graph: _Graph, config: ModelConfig) -> str:
    """What is added to the scores, ``(b, heads, t, t)``."""
    producers, ancestors = graph.inputs["producers"], graph.inputs["ancestors"]
    swapped: Attributes = {"perm": (0, 2, 1)}
    square = graph.add("Shape", [producers])
    kinds = {
        "producers": producers,
        "consumers": graph.add("Transpose", [producers], swapped),
        "ancestors": ancestors,
        "descendants": graph.add("Transpose", [ancestors], swapped),
        "all": graph.add("Expand", [graph.add("Unsqueeze", [graph.inputs["present"], graph.integers(1)]), square]),
    }
    one = graph.integers(1)
    seen = graph.add("Concat", [graph.add("Unsqueeze", [kinds[h], one]) for h in config.heads], {"axis": 1})
    return graph.add("Where", [seen, graph.number(0.0), graph.number(_NEVER)])
