"""Repeated subgraphs of a flat ONNX graph become model-local functions: the opposite of inlining.

A flat NAS-Bench-201 network has 220 nodes, fifteen times the same twelve. ``outline`` finds such stretches, the one
that saves most text first, then looks again at what is left and inside the functions made so far, as grammar
compression does. Weights are passed in, so a function serves any width, as in the networks of our own spaces; where the
``group`` of a depthwise convolution follows the width, each width gets its own copy of the function, which the text
shows once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import onnx
from onnx import helper

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import DOMAIN, IR_VERSION, OPSET, data_inputs, inline
from search_spaces.tensors import constant, constant_tensor, exact_operands
from surrogates.text.repeats import Item, find_repeat
from surrogates.text.weights import FREE_DIMENSION


class Leaf(NamedTuple):
    """A node of the flat graph.

    Attributes:
        node: The node.
        computed: Positions of its inputs that are computed values, or weights that several nodes read.
        weights: Positions of its inputs that are weights of its own.
        constants: Positions of its inputs that are small constants.
        kind: Equal for nodes that may stand for one another in functions of one text.
        exact: Equal for nodes that are one node of one function.
    """

    node: onnx.NodeProto
    computed: tuple[int, ...]
    weights: tuple[int, ...]
    constants: tuple[int, ...]
    kind: int
    exact: int


@dataclass
class _Rule:
    """A function to be: its items, written with the names of its first occurrence, and the value it returns."""

    items: list[Item]
    output: tuple[int, int]  # which of its leaves, and which output of it


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with its repeated subgraphs as functions; equal to it after inlining.

    Functions already there are inlined first. Weights, stored or passed as inputs, stay where they are.

    Raises:
        InvalidGraphError: Control flow: a subgraph can read any value of the graph around it.
    """
    flat = inline(model) if model.functions else model
    graph = _FlatGraph(flat)
    main = [graph.item(i) for i in range(len(graph.leaves))]
    rules: list[_Rule] = []
    outputs = frozenset(value.name for value in flat.graph.output)
    while True:
        sequences = [main, *(rule.items for rule in rules)]
        results = [outputs, *(frozenset([graph.value(rule.items, rule.output)]) for rule in rules)]
        repeat = find_repeat(sequences, results)
        if repeat is None:
            break
        _replace(sequences, results, repeat.places, repeat.length, rules, graph)
    for number in range(len(rules)):
        _break_chain(number, rules, graph)
    return _Emitter(graph, rules).model(main)


class _FlatGraph:
    """The nodes of a graph, with what is computed, weight and constant among their inputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model
        graph = model.graph
        self.opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), OPSET)
        self.constants: dict[str, onnx.TensorProto] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        stored: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = []
        for node in graph.node:
            if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
                raise InvalidGraphError(f"operator {node.op_type!r} holds a subgraph; export without control flow")
            tensor = constant_tensor(node)
            if tensor is None:
                self.nodes.append(node)
            else:
                stored[node.output[0]] = tensor
        self.stored = stored
        data = _data_names(model, stored)
        for value in graph.input:
            if value.name not in data and value.name not in stored:
                self.shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        exact = exact_operands(self.nodes)
        literals: dict[str, bytes] = {}
        for name, tensor in stored.items():
            if (value := constant(tensor, exact=name in exact).value) is not None:
                self.constants[name] = tensor
                literals[name] = value
            else:
                self.shapes[name] = tuple(tensor.dims)
        for sparse in graph.sparse_initializer:
            self.shapes[sparse.values.name] = tuple(sparse.dims)
        read = Counter([name for node in self.nodes for name in node.input])
        read.update(value.name for value in graph.output)
        self.own = {name for name in self.shapes if read[name] == 1}
        self._kinds: dict[tuple[object, ...], int] = {}
        self._literals = {
            name: (tensor.data_type, *tensor.dims, literals[name]) for name, tensor in self.constants.items()
        }
        self.leaves = [self._leaf(node) for node in self.nodes]

    def _leaf(self, node: onnx.NodeProto) -> Leaf:
        computed: list[int] = []
        weights: list[int] = []
        constants: list[int] = []
        signs: list[object] = []
        for position, name in enumerate(node.input):
            if not name:
                signs.append(None)
            elif name in self.constants:
                constants.append(position)
                signs.append(self._literals[name])
            elif name in self.own:
                weights.append(position)
                signs.append(len(self.shapes[name]))
            else:
                computed.append(position)
                signs.append(True)
        group = next((a for a in node.attribute if a.name == "group"), None)
        weight = self.shapes.get(node.input[1], ()) if group is not None and len(node.input) > 1 else ()
        depthwise = node.op_type == "Conv" and group is not None and group.i > 1 and weight[1:2] == (1,)
        attributes = tuple(
            sorted(a.SerializeToString(deterministic=True) for a in node.attribute if not (depthwise and a is group))
        )
        kernel = self.shapes.get(node.input[1], ())[2:] if node.op_type in ("Conv", "ConvTranspose") else ()
        written = tuple(bool(name) for name in node.output)
        key = (node.domain, node.op_type, attributes, tuple(signs), kernel, written, depthwise)
        exact = (*key, group.i if depthwise and group is not None else 0)
        return Leaf(node, tuple(computed), tuple(weights), tuple(constants), self.number(key), self.number(exact))

    def number(self, key: tuple[object, ...]) -> int:
        """Number of a kind, in order of first appearance."""
        return self._kinds.setdefault(key, len(self._kinds))

    def item(self, index: int) -> Item:
        """The item of one node."""
        leaf = self.leaves[index]
        return Item(
            leaf.kind,
            tuple([leaf.node.input[i] for i in leaf.computed]),
            tuple(leaf.node.output),
            None,
            self._slots(leaf),
            (index,),
        )

    def _slots(self, leaf: Leaf) -> tuple[str, ...]:
        """What the text shows of the node's weight: the output channels, if they differ from the input's."""
        if not leaf.weights or leaf.node.op_type not in FREE_DIMENSION:
            return ()
        shape = self.shapes[leaf.node.input[leaf.weights[0]]]
        if leaf.node.op_type == "Conv" and len(shape) > 2:
            group = next((a.i for a in leaf.node.attribute if a.name == "group"), 1)
            return ("" if shape[0] == shape[1] * group else f"c{shape[0]}",)
        return ("" if len(set(shape)) == 1 else "x".join(map(str, shape)),)

    def value(self, items: Sequence[Item], output: tuple[int, int]) -> str:
        """Name of output ``output`` of the leaves of ``items``."""
        leaf, position = output
        leaves = [index for item in items for index in item.leaves]
        return self.leaves[leaves[leaf]].node.output[position]


def _data_names(model: onnx.ModelProto, stored: dict[str, onnx.TensorProto]) -> set[str]:
    return {value.name for value in data_inputs(model)} - stored.keys()


def _replace(
    sequences: Sequence[list[Item]],
    results: Sequence[frozenset[str]],
    places: Sequence[tuple[int, int]],
    length: int,
    rules: list[_Rule],
    graph: _FlatGraph,
) -> None:
    """Make a rule of the stretches at ``places`` and calls of it where they stood."""
    rule = len(rules)
    symbol = graph.number(("rule", rule))
    sequence, start = places[0]
    first = sequences[sequence][start : start + length]
    output = _returned(first, sequences[sequence][start + length :], results[sequence], graph)
    for sequence, start in reversed(places):
        items = sequences[sequence]
        stretch = items[start : start + length]
        written = {value for item in stretch for value in item.writes}
        reads = tuple(dict.fromkeys(v for item in stretch for v in item.reads if v not in written))
        leaves = tuple([leaf for item in stretch for leaf in item.leaves])
        slots = tuple([slot for item in stretch for slot in item.slots])
        items[start : start + length] = [Item(symbol, reads, (graph.value(stretch, output),), rule, slots, leaves)]
    rules.append(_Rule(first, output))


def _returned(
    items: Sequence[Item], rest: Sequence[Item], results: frozenset[str], graph: _FlatGraph
) -> tuple[int, int]:
    """Which value of ``items`` is read after them, as a leaf and its output."""
    wanted = {value for item in rest for value in item.reads} | results
    leaves = [index for item in items for index in item.leaves]
    visible = {value for item in items for value in item.writes}
    for number, index in enumerate(leaves):
        for position, value in enumerate(graph.leaves[index].node.output):
            if value in wanted and value in visible:
                return number, position
    raise AssertionError("a stretch returns one value")


def _break_chain(number: int, rules: list[_Rule], graph: _FlatGraph) -> None:
    """Make two functions of one that is a mere chain: the text writes chains where they are called, not as functions.

    The second half starts at a node like the first one if there is one, so that ``Conv|Relu|Conv|Relu`` falls apart
    where a reader expects it.
    """
    items = rules[number].items
    if any(item.rule is not None or len(item.reads) != 1 for item in items):
        return
    if any(after.reads[0] not in before.writes for before, after in pairwise(items)):
        return
    middle = len(items) / 2
    op = graph.leaves[items[0].leaves[0]].node.op_type
    alike = [i for i in range(1, len(items)) if graph.leaves[items[i].leaves[0]].node.op_type == op]
    cut = min(alike or range(1, len(items)), key=lambda i: (abs(i - middle), i))
    calls = []
    for half in (items[:cut], items[cut:]):
        rules.append(_Rule(list(half), (len(half) - 1, 0)))
        symbol = graph.number(("rule", len(rules) - 1))
        slots, leaves = tuple(s for i in half for s in i.slots), tuple(i.leaves[0] for i in half)
        calls.append(Item(symbol, half[0].reads, half[-1].writes, len(rules) - 1, slots, leaves))
    rules[number].items = calls


class _Emitter:
    """Writes rules as functions, once for each exact content."""

    def __init__(self, graph: _FlatGraph, rules: Sequence[_Rule]) -> None:
        self.graph = graph
        self.rules = rules
        self.names: dict[tuple[int, tuple[int, ...]], str] = {}
        self.functions: list[onnx.FunctionProto] = []

    def model(self, main: Sequence[Item]) -> onnx.ModelProto:
        """The outlined model."""
        source = self.graph.proto
        nodes = [
            self.graph.leaves[item.leaves[0]].node if item.rule is None else self._call(item.rule, item.leaves)
            for item in main
        ]
        needed = {name for node in nodes for name in node.input} | {value.name for value in source.graph.output}
        gone = self.graph.constants.keys() - needed
        model = onnx.ModelProto(
            ir_version=max(source.ir_version, IR_VERSION),
            producer_name=source.producer_name,
            opset_import=source.opset_import,
            metadata_props=source.metadata_props,
            functions=self.functions,
        )
        if self.functions:
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        graph = model.graph
        graph.name = source.graph.name
        graph.input.extend([value for value in source.graph.input if value.name not in gone])
        graph.output.extend(source.graph.output)
        graph.initializer.extend([tensor for name, tensor in self.graph.stored.items() if name in needed - gone])
        graph.sparse_initializer.extend(source.graph.sparse_initializer)
        graph.node.extend(nodes)
        return model

    def _call(self, rule: int, leaves: tuple[int, ...]) -> onnx.NodeProto:
        """A call of ``rule`` on ``leaves``, in the names of the flat graph."""
        inputs, output = self._interface(rule, leaves)
        return onnx.NodeProto(op_type=self._function(rule, leaves), domain=DOMAIN, input=inputs, output=[output])

    def _interface(self, rule: int, leaves: Sequence[int]) -> tuple[list[str], str]:
        """What a call takes, computed values before weights, and what it returns."""
        nodes = [self.graph.leaves[index] for index in leaves]
        written = {name for leaf in nodes for name in leaf.node.output}
        read = [leaf.node.input[i] for leaf in nodes for i in leaf.computed]
        weights = [leaf.node.input[i] for leaf in nodes for i in leaf.weights]
        leaf, position = self.rules[rule].output
        inputs = [*dict.fromkeys(name for name in read if name not in written), *weights]
        return inputs, nodes[leaf].node.output[position]

    def _function(self, rule: int, leaves: tuple[int, ...]) -> str:
        """Name of the function for ``rule`` with exactly the content of ``leaves``."""
        key = (rule, tuple([self.graph.leaves[index].exact for index in leaves]))
        if key in self.names:
            return self.names[key]
        inputs, output = self._interface(rule, leaves)
        local = {name: f"x{i}" for i, name in enumerate(inputs)} | {"": ""}
        nodes: list[onnx.NodeProto] = []
        position = 0
        for item in self.rules[rule].items:
            own = leaves[position : position + len(item.leaves)]
            position += len(own)
            node = self.graph.leaves[own[0]].node if item.rule is None else self._call(item.rule, own)
            for name in node.output:
                local.setdefault(name, f"v{len(local)}")
            renamed = onnx.NodeProto(op_type=node.op_type, domain=node.domain, attribute=node.attribute)
            for name in node.input:
                if name not in local:
                    local[name] = f"c{len(local)}"
                    nodes.append(helper.make_node("Constant", [], [local[name]], value=self.graph.constants[name]))
                renamed.input.append(local[name])
            renamed.output.extend([local[name] for name in node.output])
            nodes.append(renamed)
        name = self.names[key] = f"F{len(self.names) + 1}"
        domains = {node.domain for node in nodes}
        opsets = [entry for entry in self.graph.proto.opset_import if entry.domain in domains | {"", "ai.onnx"}]
        if DOMAIN in domains:
            opsets.append(helper.make_opsetid(DOMAIN, 1))
        self.functions.append(
            helper.make_function(DOMAIN, name, [local[n] for n in inputs], [local[output]], nodes, opsets)
        )
        return name
