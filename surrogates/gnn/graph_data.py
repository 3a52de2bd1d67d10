"""What a graph network reads of an ONNX model: operations, wires, sizes.

Three readings exist. ``cells`` are the functions that call blocks only (functions that call no function): the cells of
a cell space, few nodes, and all that differs from network to network; there blocks are nodes named by the block, and
the sums and concatenations between operations dissolve into edges, which leaves the operation-on-node graph of the
literature. ``blocks`` is the main graph with a node for each function that it calls, named by the words of the
function's name and all operators inside: what a name says is quickly learned, what is inside holds for any name.
``full`` is the whole network, with a node for each block and each operator outside of blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from search_spaces.analysis import node_macs
from search_spaces.networks import Networks
from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body, propagate
from search_spaces.tensors import Tensor
from surrogates.sources import Source, sources

#: Nodes that carry no operation of their own: in a cell they dissolve into edges.
MERGES = frozenset({"Add", "Sum", "Concat"})
#: Blocks of these operators only fit shapes to one another: they dissolve too.
PLUMBING = frozenset({"Pad", "Slice", "Constant"})
#: Operators that change a tensor number by number, each on its own.
ELEMENTWISE = frozenset(
    {"BatchNormalization", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid"}
)
INPUT, OUTPUT = "input", "output"
Kind = Literal["cells", "blocks", "full"]
#: Between the words that name a node.
BETWEEN = " "
#: Begins the words of a function's name.
NAMED = "@"
#: Sizes of a node: log channels, log resolution, log parameters, log MACs, log calls of its cell.
SIZES = 5
#: Numbers of channels in the names of blocks and cells: the sizes of a node say them.
_CHANNELS = re.compile(r"_[ch]\d+(?=_|$)")


@dataclass(frozen=True)
class RawGraph:
    """A directed acyclic graph of operations.

    Node 0 is the output; the inputs follow; then the operations in topological order.

    Attributes:
        name: Name of the cell without channels; empty for a whole network.
        operations: Operation of each node; several with ``BETWEEN`` in between where a node stands for more than one.
        edges: (source, target) of each wire, sorted.
        sizes: ``SIZES`` numbers a node.
        zeros: Nodes that write zeros whatever they read: they multiply by a constant 0.
        elementwise: Nodes that normalise or activate what one other node writes.
    """

    name: str
    operations: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[float, ...], ...]
    zeros: tuple[int, ...] = ()
    elementwise: tuple[int, ...] = ()

    @property
    def wiring(self) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        """What makes two cells the same, whatever their width."""
        return self.operations, self.edges

    @property
    def dead(self) -> set[int]:
        """Nodes that do not touch the result: zeros, what reads zeros only, and what does not reach the output."""
        feeding: dict[int, list[int]] = {node: [] for node in range(len(self.operations))}
        for source, target in self.edges:
            feeding[target].append(source)
        flowing = {node for node, name in enumerate(self.operations) if name.startswith(INPUT)}
        for node in range(1, len(self.operations)):  # in topological order
            if node not in self.zeros and any(source in flowing for source in feeding[node]):
                flowing.add(node)
        used, stack = set[int](), [0]
        while stack:
            for source in feeding[stack.pop()]:
                if source in flowing and source not in used:
                    used.add(source)
                    stack.append(source)
        inputs = {node for node, name in enumerate(self.operations) if name.startswith(INPUT)}
        return set(range(1, len(self.operations))) - used - inputs

    def without(self, gone: Mapping[int, Sequence[int]]) -> RawGraph:
        """The graph without some nodes; what they fed is fed by the nodes they map to."""
        place = {k: new for new, k in enumerate(k for k in range(len(self.operations)) if k not in gone)}
        edges = {(place[s], place[t]) for old, t in self.edges if t not in gone for s in gone.get(old, [old])}
        return RawGraph(
            self.name,
            tuple(self.operations[k] for k in place),
            tuple(sorted(edges)),
            tuple(self.sizes[k] for k in place),
            tuple(place[k] for k in self.zeros if k in place),
            tuple(place[k] for k in self.elementwise if k in place),
        )


def read(graphs: Sequence[onnx.ModelProto], kind: Kind) -> list[tuple[RawGraph, ...]]:
    """The graphs of every model, by one of the readings; those of ``Networks`` are remembered by architecture.

    Args:
        graphs: ``n`` models.
        kind: ``cells`` gives one graph per name of a cell, in order of their first call; the others a single graph.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    if not isinstance(graphs, Networks):
        return [_read(propagate(model), kind) for model in graphs]
    return [_read_source(source, kind) for source in sources(graphs)]


def main_graph(body: ShapedBody, kind: Kind) -> tuple[RawGraph]:
    """A main graph, its calls expanded as ``kind`` says."""
    builder = _Builder("", kind, calls=1)
    builder.finish(body, builder.walk(body, builder.inputs(body)))
    return (builder.graph(),)


def cell_graphs(body: ShapedBody) -> tuple[RawGraph, ...]:
    """The cells that a main graph calls; cells of one name that differ in channels count as the first of them."""
    calls: dict[ShapedBody, int] = {}
    _count_calls(body, calls)
    times: dict[str, int] = {}
    for cell, count in calls.items():
        times[base_name(cell.name)] = times.get(base_name(cell.name), 0) + count
    graphs: dict[str, RawGraph] = {}
    for cell in calls:
        name = base_name(cell.name)
        if name not in graphs and _is_cell(cell):
            builder = _Builder(name, "cells", calls=times[name])
            builder.finish(cell, builder.walk(cell, builder.inputs(cell)))
            graphs[name] = builder.graph()
    return tuple(graphs.values())


def base_name(name: str) -> str:
    """Name of a block or cell without its numbers of channels: ``sep_conv3x3_c64_s2`` is ``sep_conv3x3_s2``."""
    return _CHANNELS.sub("", name)


def _read(body: ShapedBody, kind: Kind) -> tuple[RawGraph, ...]:
    return cell_graphs(body) if kind == "cells" else main_graph(body, kind)


@lru_cache(maxsize=1 << 16)
def _read_source(source: Source, kind: Kind) -> tuple[RawGraph, ...]:
    return _read(propagate(source.model()), kind)


class _Builder:
    """Collects the nodes and edges of one graph."""

    def __init__(self, name: str, kind: Kind, *, calls: int) -> None:
        self.name, self.kind, self.log_calls = name, kind, float(np.log1p(calls))
        self.operations, self.sizes = [OUTPUT], [(0.0,) * SIZES]
        self.edges: set[tuple[int, int]] = set()
        self.zeros: list[int] = []
        self.elementwise: list[int] = []

    def inputs(self, body: ShapedBody) -> dict[str, frozenset[int]]:
        """Add the data inputs of ``body``; the nodes that each name stands for."""
        return {
            body.inputs[position]: frozenset({self.add(f"{INPUT}{k}", body.tensors[body.inputs[position]], 0, 0, ())})
            for k, position in enumerate(body.computed)
        }

    def add(self, operation: str, tensor: Tensor, parameters: int, macs: int, sources: Sequence[int]) -> int:
        """Add a node that writes ``tensor``."""
        dims = [dim if isinstance(dim, int) else 1 for dim in tensor.shape or ()]
        channels, resolution = (dims[1] if len(dims) > 1 else 1), (dims[2] if len(dims) > 2 else 1)
        logs = np.log1p([channels, resolution, parameters, macs])
        self.operations.append(operation)
        self.sizes.append((*logs.tolist(), self.log_calls))
        node = len(self.operations) - 1
        self.edges.update((source, node) for source in sources)
        return node

    def walk(self, body: ShapedBody, known: dict[str, frozenset[int]]) -> dict[str, frozenset[int]]:
        """Add the nodes of ``body``; ``known`` maps its inputs, and in the end every name, to nodes."""
        for node in body.nodes:
            if node.node.op_type == "Constant":
                continue
            sources = frozenset().union(*[known[name] for name in node.names if name in known])
            if node.body is not None and self.kind != "blocks" and not _is_leaf(node.body):
                formal = dict(zip(node.body.inputs, node.names, strict=False))
                inner = {name: known[actual] for name, actual in formal.items() if actual in known}
                inner = self.walk(node.body, inner)
                written = [inner[name] for name in node.body.outputs]
            elif self.kind == "cells" and _is_wire(node):
                written = [sources] * len(node.results)
            else:
                parameters = sum(t.size for t in node.inputs if t is not None and t.parameter)
                operation = BETWEEN.join(_words(node)) if self.kind == "blocks" else _operation(node)
                added = self.add(operation, node.outputs[0], parameters, node_macs(node), sorted(sources))
                if _is_zero(node):
                    self.zeros.append(added)
                elif len(sources) == 1 and _is_elementwise(node):
                    self.elementwise.append(added)
                written = [frozenset({added})] * len(node.results)
            known.update(zip(node.results, written, strict=True))
        return known

    def finish(self, body: ShapedBody, known: dict[str, frozenset[int]]) -> None:
        """Connect the outputs of ``body``."""
        self.edges.update((source, 0) for name in body.outputs for source in known[name])

    def graph(self) -> RawGraph:
        return RawGraph(
            self.name,
            tuple(self.operations),
            tuple(sorted(self.edges)),
            tuple(self.sizes),
            tuple(self.zeros),
            tuple(self.elementwise),
        )


@kept_with_body
def _is_leaf(body: ShapedBody) -> bool:
    """Whether ``body`` calls no function."""
    return all(node.body is None for node in body.nodes)


def _is_cell(body: ShapedBody) -> bool:
    """Whether ``body`` calls functions, and leaf functions only."""
    called = [node.body for node in body.nodes if node.body is not None]
    return bool(called) and all(map(_is_leaf, called))


def _is_wire(node: ShapedNode) -> bool:
    """Whether ``node`` only joins tensors or fits their shapes."""
    if node.body is None:
        return node.node.op_type in MERGES or node.node.op_type in PLUMBING
    return all(inner.node.op_type in PLUMBING for inner in node.body.nodes)


def _is_elementwise(node: ShapedNode) -> bool:
    """Whether ``node`` normalises or activates; activations may be blocks, such as ``x * sigmoid(x)``."""
    if node.body is None:
        return node.node.op_type in ELEMENTWISE
    return all(inner.body is None and inner.node.op_type in {*ELEMENTWISE, "Mul"} for inner in node.body.nodes)


def _is_zero(node: ShapedNode) -> bool:
    """Whether ``node`` multiplies with a constant 0, or is a block that ends so."""
    if node.body is not None:
        return bool(node.body.nodes) and _is_zero(node.body.nodes[-1])
    values = [t.value for t in node.inputs if t is not None and t.elem_type == TensorProto.FLOAT and t.value]
    return node.node.op_type == "Mul" and any(not any(value) for value in values)


def _operation(node: ShapedNode) -> str:
    """Block or operator, with the kernel and strides of a bare operator."""
    shown = [
        f"{attribute.name}{'x'.join(map(str, attribute.ints))}"
        for attribute in sorted(node.node.attribute, key=lambda a: a.name)
        if attribute.name in ("kernel_shape", "strides")
    ]
    return "_".join([base_name(node.node.op_type), *shown])


def _words(node: ShapedNode) -> tuple[str, ...]:
    """What a node of a main graph is: the words of the name of the function that it calls, and ``_inside``."""
    name = base_name(node.node.op_type).split("_") if node.body is not None else ()
    return (*(NAMED + word for word in name), *_inside(node))


def _inside(node: ShapedNode) -> tuple[str, ...]:
    """The operators that a node stands for, sorted: itself, or all in the function that it calls."""
    return (_operation(node),) if node.body is None else _operators_of(node.body)


@kept_with_body
def _operators_of(body: ShapedBody) -> tuple[str, ...]:
    inner = [node for node in body.nodes if node.node.op_type != "Constant"]
    return tuple(sorted(operator for node in inner for operator in _inside(node)))


def _count_calls(body: ShapedBody, calls: dict[ShapedBody, int]) -> None:
    for node in body.nodes:
        if node.body is not None and not _is_leaf(node.body):
            calls[node.body] = calls.get(node.body, 0) + 1
            _count_calls(node.body, calls)
