"""GraphBuilder: networks written as nested calls, emitted as ONNX with model-local functions.

A *block* is a Python function ``body(scope, x, ..., **options)`` that adds nodes to a scope. Calling it through
``Scope.call`` (or as a ``@block``) traces it once per input shape, turns it into one ``FunctionProto`` and adds one
node to the caller. Functions hold no channel counts: those live in the shapes of the parameters that every call passes
down, so a cell is written once and called at any width. Parameters are lazy: names, shapes and an initialiser until
``GraphBuilder.model(weights=True)`` draws them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial, wraps
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper

#: Domain of the model-local functions.
DOMAIN = "nasrlm"
OPSET = 18
IR_VERSION = 8  # the first with model-local functions: the widest set of readers
#: Metadata key that names the data inputs of a model whose parameters are graph inputs.
DATA_INPUTS = "nasrlm.data_inputs"
BATCH = "batch"

Shape = tuple[int, ...]
Attribute = int | float | str | tuple[int, ...]


class Value(NamedTuple):
    """A tensor inside a scope; ``shape`` is channels first and leaves out the batch axis."""

    name: str
    shape: Shape


class Parameter(NamedTuple):
    """A weight to be: ``init`` is ``he`` (normal, fan-in), ``zeros`` or ``ones``; statistics are not ``trainable``."""

    name: str
    shape: Shape
    init: str
    trainable: bool = True


class Node(NamedTuple):
    """One ONNX node; hashable, so that equal nodes of different networks share one cached ``NodeProto``."""

    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """What tracing a body on given shapes found: the function, and what this call of it needs and returns.

    Attributes:
        name: Name of the function.
        inputs: Names of the inputs that are not parameters.
        output: Name of the output.
        nodes: Nodes of the body.
        shape: Shape of the output.
        names: Names of the parameters, as the body knows them.
        parameters: The parameters in the same order, under the names of the blocks that declared them.
        callees: The functions that the body calls.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[Node, ...]
    shape: Shape
    names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    callees: tuple[Trace, ...]

    @cached_property
    def body(self) -> tuple[Any, ...]:
        """What must be equal for two traces to be calls of one function."""
        return self.inputs, self.names, self.output, self.nodes

    @cached_property
    def content(self) -> bytes:
        """The function, as bytes of a model that holds nothing else."""
        return _one_function_bytes(self.name, *self.body)


Body = Callable[..., Value]


class Scope:
    """A graph or function body under construction."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        #: Parameters in order of use, those of one call together: names in this scope, and what their block declared.
        self.declared: list[tuple[tuple[str, ...], tuple[Parameter, ...]]] = []
        self.callees: dict[str, Trace] = {}
        self._labels: dict[str, int] = {}
        self._traces: dict[tuple[str, tuple[Shape, ...]], Trace] = {}

    @property
    def parameters(self) -> list[Parameter]:
        """Every weight of this scope and of what it calls, under its full name."""
        return [
            Parameter(name, *parameter[1:])
            for names, parameters in self.declared
            for name, parameter in zip(names, parameters, strict=True)
        ]

    def op(self, op: str, *inputs: Value, shape: Shape, **attributes: Attribute) -> Value:
        """Add one ONNX operator whose single output has ``shape``."""
        return self._emit(op, "", tuple(value.name for value in inputs), shape, tuple(attributes.items()))

    def parameter(self, label: str, shape: Shape, init: str, *, trainable: bool = True) -> Value:
        """Declare a weight of this scope."""
        parameter = Parameter(self._label(label), shape, init, trainable)
        self.declared.append(((parameter.name,), (parameter,)))
        return Value(parameter.name, shape)

    def call(self, name: str, body: Body, *inputs: Value, label: str | None = None) -> Value:
        """Call ``body`` as the ONNX function ``name``; traced once per input shapes in this scope.

        Bodies of one name must be equal: parameter shapes may differ from call to call, nodes may not.
        """
        shapes = tuple(value.shape for value in inputs)
        if (trace := self._traces.get((name, shapes))) is None:
            trace = self._traces[name, shapes] = trace_body(name, body, shapes)
        return self.emit(trace, inputs, label=label)

    def emit(self, trace: Trace, inputs: tuple[Value, ...], *, label: str | None = None) -> Value:
        """Add a call of an already traced function."""
        known = self.callees.setdefault(trace.name, trace)
        if known is not trace:
            _require_same(known, trace)
        prefix = self._label(label or trace.name)
        names = tuple([f"{prefix}.{name}" for name in trace.names])
        if names:
            self.declared.append((names, trace.parameters))
        return self._emit(trace.name, DOMAIN, (*[value.name for value in inputs], *names), trace.shape, ())

    def _emit(
        self,
        op: str,
        domain: str,
        inputs: tuple[str, ...],
        shape: Shape,
        attributes: tuple[tuple[str, Attribute], ...],
    ) -> Value:
        output = f"v{len(self.nodes)}"
        self.nodes.append(Node(op, domain, inputs, (output,), attributes))
        return Value(output, shape)

    def _label(self, label: str) -> str:
        count = self._labels[label] = self._labels.get(label, 0) + 1
        return label if count == 1 else f"{label}_{count}"


def trace_body(name: str, body: Body, shapes: tuple[Shape, ...]) -> Trace:
    """Run ``body`` on values of the given shapes and record what it emits."""
    scope = Scope()
    inputs = tuple(Value(f"x{i}", shape) for i, shape in enumerate(shapes))
    result = body(scope, *inputs)
    return Trace(
        name,
        tuple(value.name for value in inputs),
        result.name,
        tuple(scope.nodes),
        result.shape,
        tuple([name for names, _ in scope.declared for name in names]),
        tuple([parameter for _, parameters in scope.declared for parameter in parameters]),
        tuple(scope.callees.values()),
    )


@lru_cache(maxsize=4096)
def _require_same(one: Trace, other: Trace) -> None:
    """Traces of one name are one function: their bodies must be equal, and so must all that they call.

    Only one of them is written, so a difference further down would otherwise go unnoticed.
    """
    if one.body != other.body:
        raise ValueError(f"function {other.name!r} has two different bodies; give each its own name")
    for callee, counterpart in zip(one.callees, other.callees, strict=True):  # equal bodies call the same names
        if callee is not counterpart:
            _require_same(callee, counterpart)


def block(name: str) -> Callable[[Body], Body]:
    """Make a body an ONNX function that any scope can call: ``relu_conv_bn(scope, x, channels=16, kernel=3)``.

    Args:
        name: Name of the function, formatted with the options; it must name every option that changes the nodes
            (those that change parameter shapes only may stay out). ``_s1`` and ``_d1`` (stride and dilation 1) are
            dropped from it. Traces are shared by all networks of the process.
    """

    def decorate(body: Body) -> Body:
        defaults: dict[str, Any] = getattr(body, "__kwdefaults__", None) or {}

        @lru_cache(maxsize=65536)
        def trace(*shapes: Shape, **options: Any) -> Trace:
            chosen = {**defaults, **options}
            function = name.format(**chosen).replace("_s1", "").replace("_d1", "")
            return trace_body(function, partial(body, **chosen), shapes)

        @wraps(body)
        def call(scope: Scope, *inputs: Value, label: str | None = None, **options: Any) -> Value:
            return scope.emit(trace(*[value.shape for value in inputs], **options), inputs, label=label)

        return call

    return decorate


class GraphBuilder(Scope):
    """The main graph of a network.

    Args:
        name: Name of the ONNX graph.
        input_shape: Shape of the data input without the batch axis.

    Attributes:
        input: The data input.
    """

    def __init__(self, name: str, input_shape: Shape) -> None:
        super().__init__()
        self.name = name
        self.input = Value("input", tuple(input_shape))
        self._output: Value | None = None

    def output(self, value: Value) -> None:
        """Declare the network's output."""
        self._output = value

    def model(self, *, weights: bool = False, seed: int = 0) -> onnx.ModelProto:
        """The finished ONNX model; see ``SearchSpace.to_onnx`` for the options."""
        if self._output is None:
            raise ValueError(f"network {self.name!r} has no output; call output(value) at the end of build")
        # Protobuf messages merge when their bytes are joined; joining cached bytes is several times faster than adding
        # messages one by one.
        fields = [_input_bytes(self.input.name, self.input.shape, batched=True)]
        if not weights:
            for names, parameters in self.declared:
                fields += [_input_bytes(name, p.shape) for name, p in zip(names, parameters, strict=True)]
        fields.append(_output_bytes(self._output.name, self._output.shape))
        fields += [_node_bytes(node) for node in self.nodes]
        model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="nasrlm")
        model.opset_import.extend(_OPSETS)
        model.metadata_props.add(key=DATA_INPUTS, value=self.input.name)
        model.graph.MergeFromString(b"".join(fields))
        model.graph.name = self.name
        if weights:
            model.graph.initializer.extend([draw(parameter, seed=seed) for parameter in self.parameters])
        model.MergeFromString(b"".join(_function_bytes(self.callees)))
        return model


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without model-local functions; constants of values already given stay where they are."""
    flat = onnx.inliner.inline_local_functions(model)
    if not any(entry.key == DATA_INPUTS for entry in flat.metadata_props):
        flat.metadata_props.extend(model.metadata_props)
    return flat


def data_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph inputs that carry data, not parameters."""
    names = data_names(model)
    return [value for value in model.graph.input if value.name in names]


def data_names(model: onnx.ModelProto) -> set[str]:
    """Names of the graph inputs that carry data; may hold names of no input where a foreign file says so."""
    named = next((entry.value.split(",") for entry in model.metadata_props if entry.key == DATA_INPUTS), None)
    if named is not None:
        return set(named)
    stored = {tensor.name for tensor in model.graph.initializer}
    return {name for value in model.graph.input if (name := value.name) not in stored}


def parameter_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Name and shape of every parameter: initialisers, and graph inputs that carry no data."""
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    data = {value.name for value in data_inputs(model)}
    for value in model.graph.input:
        if (name := value.name) not in data:
            shapes[name] = _declared_shape(value.type.SerializeToString())
    return shapes


@lru_cache(maxsize=4096)
def _declared_shape(content: bytes) -> Shape:
    return tuple(dim.dim_value for dim in onnx.TypeProto.FromString(content).tensor_type.shape.dim)


_OPSETS = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]


def _value_info(name: str, shape: Shape, *, batched: bool) -> onnx.ValueInfoProto:
    dims: list[str | int | None] = [BATCH, *shape] if batched else [*shape]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


@lru_cache(maxsize=1 << 18)
def _input_bytes(name: str, shape: Shape, *, batched: bool = False) -> bytes:
    return _bytes(onnx.GraphProto(input=[_value_info(name, shape, batched=batched)]))


@lru_cache(maxsize=4096)
def _output_bytes(name: str, shape: Shape) -> bytes:
    return _bytes(onnx.GraphProto(output=[_value_info(name, shape, batched=True)]))


@lru_cache(maxsize=65536)
def _node_bytes(node: Node) -> bytes:
    return _bytes(onnx.GraphProto(node=[_node_proto(node)]))


def _bytes(message: onnx.GraphProto | onnx.ModelProto) -> bytes:
    data: bytes = message.SerializeToString()
    return data


@lru_cache(maxsize=65536)
def _node_proto(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op, domain=node.domain, input=node.inputs, output=node.outputs)
    proto.attribute.extend([helper.make_attribute(key, value) for key, value in node.attributes])
    return proto


def _function_bytes(callees: dict[str, Trace]) -> list[bytes]:
    """Functions of a model, callees before callers."""
    found: dict[str, Trace] = {}

    def visit(trace: Trace) -> None:
        known = found.get(trace.name)
        if known is not None:
            if known is not trace:
                _require_same(known, trace)
            return
        for callee in trace.callees:
            visit(callee)
        found[trace.name] = trace

    for trace in callees.values():
        visit(trace)
    return [trace.content for trace in found.values()]


@lru_cache(maxsize=4096)
def _one_function_bytes(
    name: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    output: str,
    nodes: tuple[Node, ...],
) -> bytes:
    proto = onnx.FunctionProto(name=name, domain=DOMAIN, input=(*inputs, *parameters), output=(output,))
    proto.opset_import.extend(_OPSETS)
    proto.node.extend([_node_proto(node) for node in nodes])
    return _bytes(onnx.ModelProto(functions=[proto]))


def draw(parameter: Parameter, *, seed: int) -> onnx.TensorProto:
    """The initial value of a parameter; depends on the seed and its name only."""
    if parameter.init == "he":
        rng = np.random.default_rng([seed, zlib.crc32(parameter.name.encode())])
        fan_in = max(1, int(np.prod(parameter.shape[1:])))
        array = rng.standard_normal(parameter.shape, dtype=np.float32) * np.float32(np.sqrt(2.0 / fan_in))
    else:
        array = np.full(parameter.shape, {"zeros": 0.0, "ones": 1.0}[parameter.init], np.float32)
    return TensorProto(name=parameter.name, data_type=TensorProto.FLOAT, dims=parameter.shape, raw_data=array.tobytes())
