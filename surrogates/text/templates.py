"""Bodies as templates: their lines without names, weights and widths, and what a call site adds to each line.

A *template* is what the text can write once as a function; its *facts*, channels and resolutions, belong to a call.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import onnx

from search_spaces.errors import InvalidGraphError
from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body
from search_spaces.tensors import Tensor
from surrogates.text.spelling import SLOT, Spelling, shape_text, spell

Reference = tuple[int, int]  # line (inputs of a function are lines -n … -1) and which of its outputs


class Line(NamedTuple):
    """One line of a body: operators with ``SLOT`` marks, or a call of ``callee``."""

    operators: tuple[str, ...]
    references: tuple[Reference, ...]
    callee: Template | None = None


@dataclass(frozen=True)
class Template:
    """A body without anything that depends on the call: equal templates are one function.

    Attributes:
        inputs: Number of computed inputs.
        lines: What is computed.
        outputs: What is returned.
    """

    inputs: int
    lines: tuple[Line, ...]
    outputs: tuple[Reference, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # templates nest: hashing them anew at every call would walk the whole network
        return hash((self.inputs, self.lines, self.outputs))

    @cached_property
    def uses(self) -> Counter[int]:
        """How often each line is read."""
        counted = Counter([source for line in self.lines for source, _ in line.references])
        counted.update(source for source, _ in self.outputs)
        return counted


class Fact(NamedTuple):
    """What a call site adds to one line: slot values, the new resolution, and the facts of an inner body."""

    slots: tuple[str, ...]
    mark: str
    inner: Instance | None


class Instance(NamedTuple):
    """A template with the facts of one call."""

    template: Template
    facts: tuple[Fact, ...]


@kept_with_body
def instance_of(body: ShapedBody) -> Instance:
    """The template of ``body`` with the facts of this call of it."""
    return _BodyReader(body).read()


@lru_cache(maxsize=1024)
def _template(inputs: int, lines: tuple[Line, ...], outputs: tuple[Reference, ...]) -> Template:
    """One object for equal templates: they are compared often."""
    return Template(inputs, lines, outputs)


@lru_cache(maxsize=65536)
def _spelling(content: bytes, named: tuple[bool, ...], inputs: tuple[Tensor | None, ...]) -> Spelling:
    """``spell`` of an operator given by ``operator_content`` and which of its outputs have a name."""
    node = onnx.NodeProto.FromString(content)
    node.output.extend("o" if name else "" for name in named)
    return spell(node, inputs)


@dataclass
class _Open:
    """A line under construction; ``tail`` is the value that the next operator of the chain must read."""

    number: int
    operators: list[str]
    references: tuple[Reference, ...]
    slots: list[str]
    source: Tensor | None
    result: Tensor | None
    tail: str | None
    callee: Template | None = None
    inner: Instance | None = None


class _BodyReader:
    """Turns the nodes of one body into lines."""

    def __init__(self, body: ShapedBody) -> None:
        self.body = body
        self.data = [body.inputs[i] for i in body.computed]
        self.where: dict[str, Reference] = {name: (i - len(self.data), 0) for i, name in enumerate(self.data)}
        self.uses = body.uses
        self.constants: dict[str, Tensor] = {}
        self.lines: list[_Open] = []

    def read(self) -> Instance:
        written = {name for node in self.body.nodes for name in node.results}
        stored = [name for name in self.body.outputs if name not in self.where and name not in written]
        for name in dict.fromkeys((*self.body.shared, *stored)):  # a returned constant counts like a weight
            self._shared_weight(name, self.body.tensors[name])
        for node in self.body.nodes:
            if node.body is not None:
                self._call(node, node.body)
            elif node.node.op_type == "Constant":
                self._constant(node)
            else:
                self._operator(node)
        lines = tuple(Line(tuple(line.operators), line.references, line.callee) for line in self.lines)
        facts = tuple(Fact(tuple(line.slots), _mark(line.source, line.result), line.inner) for line in self.lines)
        outputs = tuple(self._reference(name) for name in self.body.outputs)
        return Instance(_template(len(self.data), lines, outputs), facts)

    def _shared_weight(self, name: str, tensor: Tensor) -> None:
        """A weight that several nodes read stands on a line of its own."""
        line = self._open([], None)
        line.operators.append(f"Weight{SLOT}")
        line.slots.append(" " + shape_text(tensor, onnx.TensorProto.FLOAT))
        self.where[name] = (line.number, 0)

    def _constant(self, node: ShapedNode) -> None:
        name, tensor = node.results[0], node.outputs[0]
        if (tensor.parameter and self.uses[name] > 1) or name in self.body.outputs:
            self._shared_weight(name, tensor)
        else:
            self.constants[name] = tensor

    def _operator(self, node: ShapedNode) -> None:
        inputs = node.inputs
        if self.constants:
            named = zip(node.names, inputs, strict=True)
            inputs = tuple([self.constants.get(name, tensor) for name, tensor in named])
        spelling = _spelling(node.content, tuple(map(bool, node.results)), inputs)
        names = [node.names[i] for i in spelling.data]
        line = self._chain_end(names[0]) if len(names) == 1 else None
        if line is None:
            line = self._open([self._reference(name) for name in names], self.body.tensors[names[0]] if names else None)
        line.operators.append(spelling.text)
        line.slots += spelling.slots
        line.result = node.outputs[0]
        line.tail = node.results[0] if len(node.results) == 1 else None
        self._place(node, line)

    def _call(self, node: ShapedNode, body: ShapedBody) -> None:
        names = [node.names[i] for i in body.computed]
        instance = instance_of(body)
        template, facts = instance
        references = [self._reference(name) for name in names]
        only = template.lines[0] if len(template.lines) == 1 else None
        source = self.body.tensors[names[0]] if names else None
        if only is not None and only.callee is None and template.outputs == ((0, 0),):  # a chain: no function needed
            line = self._open([references[number + template.inputs] for number, _ in only.references], source)
            line.operators += only.operators
        else:
            line = self._open(references, source)
            line.callee, line.inner = template, instance
        line.slots += [slot for fact in facts for slot in fact.slots]
        line.result = node.outputs[0]
        self._place(node, line)

    def _open(self, references: list[Reference], source: Tensor | None) -> _Open:
        line = _Open(len(self.lines), [], tuple(references), [], source, None, None)
        self.lines.append(line)
        return line

    def _chain_end(self, name: str) -> _Open | None:
        """The open line that ``name`` may be continued on: nobody else reads it."""
        place = self.where.get(name)
        if place is None or place[0] < 0 or self.uses[name] != 1:
            return None
        line = self.lines[place[0]]
        return line if line.tail == name else None

    def _place(self, node: ShapedNode, line: _Open) -> None:
        for position, name in enumerate(node.results):
            if name:
                self.where[name] = (line.number, position)

    def _reference(self, name: str) -> Reference:
        try:
            return self.where[name]
        except KeyError:
            raise InvalidGraphError(f"{name!r} is used as a computed value but is a constant or weight") from None


def _mark(source: Tensor | None, result: Tensor | None) -> str:
    """``@16`` or ``@16x8`` where a line changes the resolution of an image."""
    if source is None or result is None or source.shape is None or result.shape is None:
        return ""
    if len(result.shape) != 4 or result.shape[2:] == source.shape[2:]:
        return ""
    height, width = result.shape[2:]
    return f" @{height}" if height == width else f" @{height}x{width}"
