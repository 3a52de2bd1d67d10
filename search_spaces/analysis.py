"""Costs counted on the ONNX graph: parameters and multiply-accumulates, through model-local functions."""

from __future__ import annotations

from math import prod

import onnx
from onnx import TensorProto

from search_spaces.graph import parameter_shapes
from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body, propagate

#: Positions of inputs that are not trained: running mean and variance; bounds, ratios, scales and fill values.
_UNTRAINED = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def count_parameters(model: onnx.ModelProto) -> int:
    """Trainable parameters: every floating-point weight except the running statistics of batch norm.

    What a file from elsewhere keeps as initialisers besides its weights does not count: integers (shapes, indices,
    axes), scalars (factors, exponents) and settings of operators (bounds, scales, fill values). Nor do the integer
    weights of a quantised file.
    """
    left_out = _untrained(model)
    left_out.update(t.name for t in model.graph.initializer if t.data_type not in _FLOATS or not t.dims)
    return sum(prod(shape) for name, shape in parameter_shapes(model).items() if name not in left_out)


def count_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and matrix products for one input; biases and the rest count nothing.

    This is what the NAS benchmarks publish as FLOPs.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    return _macs(propagate(model))


def node_macs(node: ShapedNode) -> int:
    """Multiply-accumulates of one node, or of all that the function it calls does; see ``count_macs``."""
    return _macs(node.body) if node.body is not None else _node_macs(node)


def _untrained(model: onnx.ModelProto) -> set[str]:
    """Names of the main graph that end as inputs that are not trained, followed through function calls."""
    positions = {("", op_type): frozenset(inputs) for op_type, inputs in _UNTRAINED.items()}
    protos = {(proto.domain, proto.name): proto for proto in model.functions}

    def visit(key: tuple[str, str]) -> frozenset[int]:
        if key not in positions:
            proto = protos.get(key)
            found = names(proto.node) if proto else set()
            positions[key] = (
                frozenset(i for i, name in enumerate(proto.input) if name in found) if proto else frozenset()
            )
        return positions[key]

    def names(nodes: list[onnx.NodeProto]) -> set[str]:
        return {node.input[i] for node in nodes for i in visit((node.domain, node.op_type)) if i < len(node.input)}

    return names(list(model.graph.node))


@kept_with_body
def _macs(body: ShapedBody) -> int:
    return sum(map(node_macs, body.nodes))


def _node_macs(node: ShapedNode) -> int:
    op = node.node.op_type
    if op == "Conv":
        weight = node.inputs[1]
        assert weight is not None and weight.shape is not None
        return node.outputs[0].size * prod(int(dim) for dim in weight.shape[1:] if isinstance(dim, int))
    if op == "ConvTranspose":
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None and weight is not None and weight.shape is not None
        return x.size * prod(int(dim) for dim in weight.shape[1:] if isinstance(dim, int))
    if op in ("Gemm", "MatMul"):
        a = node.inputs[0]
        assert a is not None and a.shape is not None
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.node.attribute)
        inner = a.shape[-2 if transposed else -1]
        return node.outputs[0].size * (inner if isinstance(inner, int) else 1)
    return 0
