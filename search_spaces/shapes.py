"""Shapes of every tensor of an ONNX model, through its functions, computed once per function and input shapes.

``onnx.shape_inference`` infers one operator at a time; this module walks graphs and function bodies with it and
remembers every body it has seen, so that a network of fifteen equal cells costs three, and the next network of the
space costs little more than its cell. Reading protobuf messages is slow, too: their nodes become ``NodeRecord``, once
per content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, wraps
from itertools import chain
from typing import NamedTuple, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import onnx

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import data_names
from search_spaces.tensors import (
    Tensor,
    constant,
    constant_tensor,
    exact_operands,
    infer_content,
    operator_content,
    tensor_type_of,
)

#: Domain and name of an operator or function.
Key = tuple[str, str]

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class NodeRecord(NamedTuple):
    """A node as plain values.

    Attributes:
        node: The message.
        key: Domain and name of the operator, or of the function it calls.
        content: ``operator_content``; equal for equal operators.
        names: Names of its inputs, empty text for absent ones.
        results: Names of its outputs.
    """

    node: onnx.NodeProto
    key: Key
    content: bytes
    names: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class BodyRecord:
    """Nodes of a graph or function, read once per content.

    Attributes:
        nodes: In topological order.
        outputs: Names of the outputs.
        opset: Version of the standard operators.
    """

    nodes: tuple[NodeRecord, ...]
    outputs: tuple[str, ...]
    opset: int

    @cached_property
    def uses(self) -> Counter[str]:
        """How often each name is read, by nodes or as an output."""
        return Counter(chain(chain.from_iterable(record.names for record in self.nodes), self.outputs))

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Names that are read more than once or returned, in the order of first use."""
        return tuple(name for name, count in self.uses.items() if count > 1 or name in self.outputs)

    @cached_property
    def exact(self) -> set[str]:
        """``exact_operands`` of the nodes."""
        return exact_operands(record.node for record in self.nodes)


class ShapedNode(NamedTuple):
    """A node with the tensors it reads and writes, and the body it calls, if it is a function call.

    ``names`` and ``results`` are the names of its inputs and outputs as plain tuples, which is quicker to walk than the
    message's own lists; ``content`` tells equal operators.
    """

    node: onnx.NodeProto
    content: bytes
    names: tuple[str, ...]
    inputs: tuple[Tensor | None, ...]
    results: tuple[str, ...]
    outputs: tuple[Tensor, ...]
    body: ShapedBody | None


@dataclass(frozen=True, eq=False)
class ShapedBody:
    """A graph or function body on given input tensors; compared by identity, shared between equal calls.

    Attributes:
        name: Name of the graph or function.
        inputs: Names of the formal inputs (graph: data inputs, then parameters).
        outputs: Names of the outputs.
        nodes: Nodes in topological order.
        tensors: Every named tensor.
        shared: Weights that several nodes of this body read, or that it returns; their tensors do not count as
            ``parameter``.
        uses: How often each name is read, by nodes or as an output.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[ShapedNode, ...]
    tensors: Mapping[str, Tensor]
    shared: tuple[str, ...]
    uses: Mapping[str, int]

    @cached_property
    def computed(self) -> tuple[int, ...]:
        """Positions of the inputs that are computed tensors, not weights or constants."""
        given = [self.tensors.get(name) if name not in self.shared else None for name in self.inputs]
        return tuple(i for i, tensor in enumerate(given) if tensor is not None and tensor.computed)


def kept_with_body(function: Callable[[ShapedBody, *Ts], R]) -> Callable[[ShapedBody, *Ts], R]:
    """Remember what ``function`` makes of a body, as long as that body is there.

    A cache of the last calls would hold on to the main graphs of thousands of networks, none of which comes back.

    Args:
        function: Its further arguments are hashable; what it returns does not refer to the body.
    """
    known: WeakKeyDictionary[ShapedBody, dict[tuple[*Ts], R]] = WeakKeyDictionary()

    @wraps(function)
    def remembering(body: ShapedBody, /, *args: *Ts) -> R:
        found = known.setdefault(body, {})
        if args not in found:
            found[args] = function(body, *args)
        return found[args]

    return remembering


@dataclass(frozen=True, eq=False)
class Function:
    """A model-local function with its callees; there is one object for equal content (``_link``)."""

    name: str
    inputs: tuple[str, ...]
    record: BodyRecord
    callees: Mapping[Key, Function]


def propagate(model: onnx.ModelProto) -> ShapedBody:
    """Shapes of ``model``'s main graph and of the functions it calls.

    Raises:
        InvalidGraphError: An operator that ONNX does not know at the model's opset, or shapes that do not fit it.
    """
    graph, functions = model.graph, _functions(model)
    record, declared = read_graph(model)
    tensors = dict(declared)
    data = data_names(model) & declared.keys()
    for name in data:
        tensors[name] = tensors[name]._replace(parameter=False)
    for tensor in graph.initializer:
        tensors[tensor.name] = constant(tensor, exact=tensor.name in record.exact)
    for sparse in graph.sparse_initializer:
        tensors[sparse.values.name] = Tensor(sparse.values.data_type, tuple(sparse.dims), parameter=True)
    ordered = [name for name in declared if name in data] if len(data) > 1 else [*data]
    ordered += [name for name in tensors if name not in data]
    return _walk(graph.name, tuple(ordered), record, tensors, functions)


# --- reading messages ------------------------------------------------------------------------------------------------


def _functions(model: onnx.ModelProto) -> dict[Key, Function]:
    """The functions of ``model``, linked to those they call."""
    contents = {(proto.domain, proto.name): proto.SerializeToString() for proto in model.functions}
    done: dict[Key, Function] = {}

    def visit(key: Key, open_calls: tuple[Key, ...]) -> Function:
        if key in open_calls:
            raise InvalidGraphError(f"function {key[1]!r} calls itself")
        if key not in done:
            called = [c for c in _called(contents[key]) if c in contents]
            done[key] = _link(contents[key], tuple((c, visit(c, (*open_calls, key))) for c in called))
        return done[key]

    for key in contents:
        visit(key, ())
    return done


@lru_cache(maxsize=1024)
def _link(content: bytes, callees: tuple[tuple[Key, Function], ...]) -> Function:
    proto = _function_proto(content)
    record = BodyRecord(node_records(proto.node), tuple(proto.output), _opset(proto.opset_import))
    return Function(proto.name, tuple(proto.input), record, dict(callees))


@lru_cache(maxsize=1024)
def _called(content: bytes) -> tuple[Key, ...]:
    """Domains and names of what a function's nodes are, sorted."""
    return tuple(sorted({(node.domain, node.op_type) for node in _function_proto(content).node}))


@lru_cache(maxsize=1024)
def _function_proto(content: bytes) -> onnx.FunctionProto:
    proto = onnx.FunctionProto()
    proto.ParseFromString(content)
    return proto


def read_graph(model: onnx.ModelProto) -> tuple[BodyRecord, Mapping[str, Tensor]]:
    """The main graph: its nodes, and the types of its inputs, taken for weights."""
    opset = _opset(model.opset_import)
    if model.graph.initializer or model.graph.sparse_initializer:  # weights make a heavy key
        return _graph_record(model.graph, opset)
    return _known_graph(model.graph.SerializeToString(), opset)


@lru_cache(maxsize=1024)
def _known_graph(content: bytes, opset: int) -> tuple[BodyRecord, dict[str, Tensor]]:
    return _graph_record(onnx.GraphProto.FromString(content), opset)


def _graph_record(graph: onnx.GraphProto, opset: int) -> tuple[BodyRecord, dict[str, Tensor]]:
    record = BodyRecord(node_records(graph.node), tuple([value.name for value in graph.output]), opset)
    return record, dict([_declared(value.SerializeToString()) for value in graph.input])


def node_records(nodes: Iterable[onnx.NodeProto]) -> tuple[NodeRecord, ...]:
    """The nodes of a graph or function as plain values."""
    return tuple(
        [NodeRecord(n, (n.domain, n.op_type), operator_content(n), tuple(n.input), tuple(n.output)) for n in nodes]
    )


@lru_cache(maxsize=16384)
def _declared(content: bytes) -> tuple[str, Tensor]:
    """Name and type of a graph input, taken for a weight."""
    value = onnx.ValueInfoProto.FromString(content)
    return value.name, tensor_type_of(value.type)._replace(parameter=True)


def _opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((int(entry.version) for entry in imports if entry.domain in ("", "ai.onnx")), 1)


# --- walking ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _function_body(function: Function, inputs: tuple[Tensor | None, ...]) -> ShapedBody:
    tensors = {name: tensor for name, tensor in zip(function.inputs, inputs, strict=False) if tensor is not None}
    return _walk(function.name, function.inputs, function.record, tensors, function.callees)


def _walk(
    name: str,
    inputs: tuple[str, ...],
    record: BodyRecord,
    tensors: dict[str, Tensor],
    functions: Mapping[Key, Function],
) -> ShapedBody:
    """Propagate through the nodes of ``record``, adding their outputs to ``tensors``."""
    shared = tuple([weight for weight in record.repeated if weight in tensors and tensors[weight].parameter])
    for weight in shared:
        tensors[weight] = tensors[weight]._replace(parameter=False)
    nodes, exact = [], record.exact
    for node, key, content, names, results in record.nodes:
        try:
            read = tuple([tensors[source] if source else None for source in names])
        except KeyError as error:
            message = f"operator {node.op_type!r} reads {error.args[0]!r}, which nothing before it computes"
            raise InvalidGraphError(message) from None
        function, body = functions.get(key), None
        if function is not None:
            if node.attribute:
                raise InvalidGraphError(f"call of {node.op_type!r}: functions with attributes must be inlined first")
            body = _function_body(function, read)
            outputs = tuple([body.tensors[output] for output in body.outputs])
        else:
            outputs = infer_content(content, len(results), read, record.opset)
            if exact and results[0] in exact and (value := constant_tensor(node)) is not None:
                outputs = (constant(value, exact=True),)
        tensors.update(zip(results, outputs, strict=False))
        nodes.append(ShapedNode(node, content, names, read, results, outputs, body))
    return ShapedBody(name, inputs, record.outputs, tuple(nodes), tensors, shared, record.uses)
