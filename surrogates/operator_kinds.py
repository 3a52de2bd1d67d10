"""Single operators: which kind they are, and how much of the image they let a pixel see."""

from __future__ import annotations

from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body

#: Kinds of operators that are counted.
KINDS = ("pointwise_convs", "convs", "depthwise_convs", "pools", "skips", "linear")


def kind_of(node: ShapedNode) -> str:
    """Which of ``KINDS`` an operator is; empty for none."""
    match node.node.op_type:
        case "Conv":
            weight = node.inputs[1]
            shape = weight.shape if weight is not None and weight.shape is not None else ()
            if len(shape) > 1 and shape[1] == 1 and _attribute(node, "group", 1) > 1:
                return "depthwise_convs"
            return "pointwise_convs" if all(size == 1 for size in shape[2:]) else "convs"
        case "MaxPool" | "AveragePool":
            return "pools"
        case "Identity":
            return "skips"
        case "Gemm" | "MatMul":
            return "linear"
    return ""


def reach_of(node: ShapedNode) -> float:
    """Growth of the receptive field through a node, as a share of the image; the longest way through a leaf function.

    A window of ``k`` with dilation ``d`` on a map of ``n`` pixels reaches ``(k - 1) d`` of them, which is
    ``(k - 1) d / n`` of the image whatever the strides before. Pooling of the whole map counts nothing.
    """
    return _operator_reach(node) if node.body is None else _leaf_reach(node.body)


@kept_with_body
def _leaf_reach(body: ShapedBody) -> float:
    reached: dict[str, float] = {}
    for node in body.nodes:
        before = max((reached.get(name, 0.0) for name in node.names), default=0.0)
        reached.update(dict.fromkeys(node.results, before + _operator_reach(node)))
    return max((reached.get(name, 0.0) for name in body.outputs), default=0.0)


def _operator_reach(node: ShapedNode) -> float:
    if node.node.op_type not in ("Conv", "MaxPool", "AveragePool"):
        return 0.0
    image = node.inputs[0]
    window = node.outputs[0]
    if image is None or image.shape is None or window.shape is None:
        return 0.0
    weight = node.inputs[1] if node.node.op_type == "Conv" else None
    kernel = _attributes(node, "kernel_shape") or (weight.shape[2:] if weight is not None and weight.shape else ())
    dilations = _attributes(node, "dilations") or (1,) * len(kernel)
    sizes = image.shape[2:]
    grown = [
        (size - 1) * dilation / pixels
        for size, dilation, pixels in zip(kernel, dilations, sizes, strict=False)
        if isinstance(size, int) and isinstance(pixels, int) and pixels
    ]
    return max(grown, default=0.0)


def _attribute(node: ShapedNode, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.node.attribute if attribute.name == name), default)


def _attributes(node: ShapedNode, name: str) -> tuple[int, ...]:
    return next((tuple(attribute.ints) for attribute in node.node.attribute if attribute.name == name), ())
