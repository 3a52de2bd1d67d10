"""Any ONNX file in the form that texts are written from: known opset, no attribute functions, no shape arithmetic.

Exporters differ in what they leave to the runtime: target shapes computed by ``Shape``, ``Gather`` and ``Concat``,
weights transposed or cast before use, opsets of their year. All of that is constant once the network is fixed, so it
is worked out here, with the batch taken to be 1: an export of free batch size reads like one of fixed size. Values of
weights are never needed: what is computed from a weight alone is a weight of the resulting shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import DATA_INPUTS, DOMAIN, OPSET, data_inputs, data_names, inline
from search_spaces.shapes import NodeRecord, node_records, read_graph
from search_spaces.tensors import Tensor, constant, constant_tensor, exact_operands, infer

_STANDARD = ("", "ai.onnx")
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
#: Constants up to this many values are computed with; larger ones count as weights.
_VALUES = 1024


def normalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` itself if a text can be written from it, else an equivalent in that form, its weights as inputs.

    Raises:
        InvalidGraphError: Control flow, an opset that cannot be converted, or shapes that do not fit.
    """
    _refuse_control_flow(model.graph.node)
    opset = _opset(model)
    functions = [_function_facts(function.SerializeToString()) for function in model.functions]
    own = opset >= OPSET and all(f.plain and f.opset in (None, opset) for f in functions)
    computes = any(f.computes_constants for f in functions) or _computes_constants(model)
    if own and (model.functions or not model.graph.initializer) and not computes:
        return model
    model = without_weights(model)
    if model.functions and (not own or computes):
        model = inline(model)
    if opset < OPSET:
        model = _converted(model, opset)
    return fold_constants(model) if _computes_constants(model) else model


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with stored weights turned into graph inputs; small constants stay."""
    data = data_inputs(model)
    exact = exact_operands(model.graph.node)
    bare = _empty_like(model)
    bare.functions.extend(model.functions)
    stored = {tensor.name for tensor in model.graph.initializer}
    bare.graph.input.extend([value for value in model.graph.input if value.name not in stored])
    for tensor in model.graph.initializer:
        if constant(tensor, exact=tensor.name in exact).value is None and not _is_value(tensor):
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    for sparse in model.graph.sparse_initializer:
        values = sparse.values
        bare.graph.input.append(helper.make_tensor_value_info(values.name, values.data_type, sparse.dims))
    bare.graph.node.extend(model.graph.node)
    bare.graph.output.extend(model.graph.output)
    _name_data(bare, [value.name for value in data if value.name not in stored])
    return bare


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, which is flat, without the nodes whose results do not depend on its data inputs.

    Shapes of tensors count as known where they are, with batch 1.

    Raises:
        InvalidGraphError: Shapes that do not fit.
    """
    return _Folder(model).fold()


class _FunctionFacts(NamedTuple):
    """What a model-local function is made of.

    Attributes:
        plain: Its calls carry nothing but tensors.
        opset: Version of the standard operators it asks for, if any.
        computes_constants: It is not one of ours, and a node of it computes something that is fixed.
    """

    plain: bool
    opset: int | None
    computes_constants: bool


@lru_cache(maxsize=1024)
def _function_facts(content: bytes) -> _FunctionFacts:
    """Facts of a serialised function.

    Raises:
        InvalidGraphError: It holds control flow.
    """
    function = onnx.FunctionProto.FromString(content)
    _refuse_control_flow(function.node)
    plain = not function.attribute and not function.attribute_proto
    opset = next((int(entry.version) for entry in function.opset_import if entry.domain in _STANDARD), None)
    return _FunctionFacts(plain, opset, function.domain != DOMAIN and _fixed_nodes(node_records(function.node), set()))


def _refuse_control_flow(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            raise InvalidGraphError(
                f"operator {node.op_type!r} runs a subgraph, which has no text form; "
                "export the model without control flow (no If, Loop or Scan)"
            )


def _opset(model: onnx.ModelProto) -> int:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in _STANDARD), OPSET)


def _computes_constants(model: onnx.ModelProto) -> bool:
    """Whether a node of the main graph computes something that is fixed."""
    record, declared = read_graph(model)
    fixed = set(declared) - data_names(model)
    fixed.update([tensor.name for tensor in model.graph.initializer])
    return _fixed_nodes(record.nodes, fixed)


def _fixed_nodes(nodes: Iterable[NodeRecord], fixed: set[str]) -> bool:
    for node in nodes:
        op_type = node.key[1]
        known = bool(node.names) and all(name in fixed for name in node.names if name)
        if op_type == "Constant":
            fixed.update(node.results)
        elif op_type in ("Shape", "Size") or (known and op_type not in _RANDOM):
            return True
    return False


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    import onnx.version_converter

    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise InvalidGraphError(
            f"the model of opset {opset} cannot be converted to opset {OPSET}; export it with that one ({error})"
        ) from error
    _name_data(converted, [value.name for value in data_inputs(model)])
    return converted


def _empty_like(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the opsets and metadata of ``model`` and an empty graph."""
    empty = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        opset_import=model.opset_import,
        metadata_props=model.metadata_props,
    )
    empty.graph.name = model.graph.name
    return empty


def _name_data(model: onnx.ModelProto, names: list[str]) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != DATA_INPUTS]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=DATA_INPUTS, value=",".join(names))


def _is_value(tensor: onnx.TensorProto) -> bool:
    """Whether computing with ``tensor`` costs nothing: integers are shapes, indices and masks rather than weights."""
    integral = tensor.data_type in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return integral and prod(tensor.dims) <= _VALUES and tensor.data_location != TensorProto.EXTERNAL


class _Folder:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = _opset(model)
        self.folded = _empty_like(model)
        self.exact = exact_operands(model.graph.node)
        #: Types of everything; values of what is known; weights, stored or computed from weights.
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, np.ndarray] = {}
        self.weights: set[str] = set()

    def fold(self) -> onnx.ModelProto:
        """The folded model."""
        source = self.model.graph
        data = {value.name for value in data_inputs(self.model)}
        stored = {tensor.name for tensor in source.initializer}
        inputs = []
        for value in source.input:
            if value.name in data:
                inputs.append(_of_batch_one(value))
                self.tensors[value.name] = _declared(inputs[-1])
            elif value.name not in stored:
                self._weight(value.name, _declared(value))
        for tensor in source.initializer:
            self._constant(tensor)
        kept = [node for node in source.node if not self._absorb(node)]
        self._collect(inputs, kept)
        return self.folded

    def _weight(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor._replace(parameter=True)
        self.weights.add(name)

    def _constant(self, tensor: onnx.TensorProto) -> None:
        external = tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING
        if external or prod(tensor.dims) > _VALUES:
            self._weight(tensor.name, constant(tensor))
        else:
            self._value(tensor.name, numpy_helper.to_array(tensor))

    def _value(self, name: str, array: np.ndarray) -> None:
        self.tensors[name] = constant(numpy_helper.from_array(array, name), exact=name in self.exact)
        self.values[name] = array

    def _absorb(self, node: onnx.NodeProto) -> bool:
        """Work ``node`` out if its results are fixed; otherwise only their types."""
        if (tensor := constant_tensor(node)) is not None:
            self._constant(tensor)
            return True
        try:
            inputs = tuple([self.tensors[name] if name else None for name in node.input])
        except KeyError as error:
            message = f"operator {node.op_type!r} reads {error.args[0]!r}, which nothing before it computes"
            raise InvalidGraphError(message) from None
        if node.domain in _STANDARD:
            if node.op_type in ("Shape", "Size") and (shape := _static(inputs[0])) is not None:
                self._value(node.output[0], _measure(node, shape))
                return True
            names = [name for name in node.input if name]
            if names and node.op_type not in _RANDOM:
                if all(name in self.values for name in names):
                    return self._evaluate(node)
                if all(name in self.values or name in self.weights for name in names):
                    return self._weights_of_weights(node, inputs)
        self.tensors.update(zip(node.output, infer(node, inputs, self.opset), strict=True))
        return False

    def _evaluate(self, node: onnx.NodeProto) -> bool:
        from onnx.reference import ReferenceEvaluator

        try:
            evaluator = ReferenceEvaluator(node)
            results = evaluator.run(None, {name: self.values[name] for name in node.input if name})
        except Exception as error:  # the evaluator raises whatever numpy does
            raise InvalidGraphError(f"constant operator {node.op_type!r} cannot be evaluated: {error}") from error
        for name, result in zip(node.output, results, strict=True):
            array = np.asarray(result)
            if array.size <= _VALUES:
                self._value(name, array)
            else:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                self._weight(name, Tensor(kind, array.shape))
        return True

    def _weights_of_weights(self, node: onnx.NodeProto, inputs: tuple[Tensor | None, ...]) -> bool:
        results = infer(node, inputs, self.opset)
        if any(_static(result) is None for result in results):
            self.tensors.update(zip(node.output, results, strict=True))
            return False
        for name, result in zip(node.output, results, strict=True):
            self._weight(name, result)
        return True

    def _collect(self, inputs: list[onnx.ValueInfoProto], kept: list[onnx.NodeProto]) -> None:
        """Put the folded graph together."""
        graph = self.folded.graph
        needed = {name for node in kept for name in node.input}
        needed.update(value.name for value in self.model.graph.output)
        graph.node.extend(kept)
        graph.output.extend(self.model.graph.output)
        graph.input.extend(inputs)
        for name, tensor in self.tensors.items():
            if name not in needed:
                continue
            if name in self.values and tensor.value is not None:
                graph.initializer.append(numpy_helper.from_array(self.values[name], name))
            elif name in self.weights or name in self.values:
                graph.input.append(helper.make_tensor_value_info(name, tensor.elem_type, tensor.shape))
        _name_data(self.folded, [value.name for value in inputs])


def _declared(value: onnx.ValueInfoProto) -> Tensor:
    proto = value.type.tensor_type
    if not proto.HasField("shape"):
        return Tensor(proto.elem_type, None)
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in proto.shape.dim]
    return Tensor(proto.elem_type, tuple(dims))


def _of_batch_one(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """``value`` with a free first dimension set to 1."""
    fixed = onnx.ValueInfoProto.FromString(value.SerializeToString())
    dims = fixed.type.tensor_type.shape.dim
    if dims and not dims[0].HasField("dim_value"):
        dims[0].dim_value = 1
    return fixed


def _static(tensor: Tensor | None) -> tuple[int, ...] | None:
    """The shape if every dimension is known."""
    if tensor is None or tensor.shape is None:
        return None
    dims = tuple(dim for dim in tensor.shape if isinstance(dim, int))
    return dims if len(dims) == len(tensor.shape) else None


def _measure(node: onnx.NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(prod(shape), dtype=np.int64)
    limits = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], dtype=np.int64)
