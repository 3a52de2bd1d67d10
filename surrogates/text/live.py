"""The live part of a network: what some input flows into and the output depends on.

A branch that is multiplied by zero, or that nobody reads, costs a device time but does not touch what the network
computes. Left out, functionally identical networks read alike, and whoever learns accuracies need not learn what to
ignore.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from onnx import numpy_helper

from surrogates.text.literals import read_literal
from surrogates.text.templates import Fact, Instance, Line, Reference, Template

_SCALED = re.compile(r"Mul\((?:~,=(?P<right>[^,]+)|=(?P<left>[^,]+),~)\)")
#: Operators that a zero operand may be taken from.
_SUMS = frozenset({"Sum", "Add"})


def live_part(instance: Instance) -> Instance:
    """``instance`` without dead lines, in every body; calls of one body stay equal.

    A body is judged as if something flowed into all its inputs and all its outputs were read; functions lose inputs
    that they make nothing of. Sums lose operands that are zero; a sum of one operand is that operand. Other operators
    keep theirs: channels of zeros are channels. If all that is returned is zero, the shortest way to write that stays.
    """
    return _Pruner().instance(instance, main=True)


class _Pruned(NamedTuple):
    """A body without dead lines.

    Attributes:
        template: What is left.
        kept: Old numbers of its lines.
        inputs: Places of the inputs that are read; all of them in the main graph.
        zeros: Its outputs that are always zero.
    """

    template: Template
    kept: tuple[int, ...]
    inputs: tuple[int, ...]
    zeros: frozenset[int]


class _Pruner:
    def __init__(self) -> None:
        self.done: dict[Template, _Pruned] = {}

    def instance(self, instance: Instance, *, main: bool = False) -> Instance:
        pruned = self._pruned(instance.template, main=True) if main else self.function(instance.template)
        return Instance(pruned.template, tuple(self._fact(instance.facts[number]) for number in pruned.kept))

    def _fact(self, fact: Fact) -> Fact:
        if fact.inner is None:
            return fact
        inner = self.instance(fact.inner)
        return Fact(tuple(slot for each in inner.facts for slot in each.slots), fact.mark, inner)

    def function(self, template: Template) -> _Pruned:
        if template not in self.done:
            self.done[template] = self._pruned(template, main=False)
        return self.done[template]

    def _pruned(self, template: Template, *, main: bool) -> _Pruned:
        zeros = self._zeros(template)
        stands_for: dict[Reference, Reference] = {}  # a sum of one operand, and that operand
        read: list[tuple[Reference, ...]] = []
        needs: list[frozenset[int]] = []  # lines and inputs that a line cannot do without, itself included

        def needed(reference: Reference) -> frozenset[int]:
            return needs[reference[0]] if reference[0] >= 0 else frozenset({reference[0]})

        for number, line in enumerate(template.lines):
            references = tuple(stands_for.get(reference, reference) for reference in self._operands(line))
            if _is_sum(line):
                flowing = tuple(reference for reference in references if reference not in zeros)
                references = flowing or (min(references, key=lambda reference: len(needed(reference))),)
                if len(references) == 1 and len(line.operators) == 1:
                    stands_for[number, 0] = references[0]
            read.append(references)
            needs.append(frozenset({number}).union(*map(needed, references)))
        outputs = tuple(stands_for.get(reference, reference) for reference in template.outputs)
        kept = tuple(sorted(frozenset[int]().union(*map(needed, outputs))))
        lines = tuple(number for number in kept if number >= 0)
        inputs = tuple(range(template.inputs)) if main else tuple(n + template.inputs for n in kept if n < 0)
        place = {old: new for new, old in enumerate(lines)}
        place |= {old - template.inputs: new - len(inputs) for new, old in enumerate(inputs)}
        left = Template(
            len(inputs),
            tuple(self._line(template.lines[number], _moved(read[number], place)) for number in lines),
            _moved(outputs, place),
        )
        dead = frozenset(index for index, reference in enumerate(template.outputs) if reference in zeros)
        return _Pruned(left, lines, inputs, dead)

    def _line(self, line: Line, references: tuple[Reference, ...]) -> Line:
        if line.callee is not None:
            return Line(line.operators, references, self.function(line.callee).template)
        return Line(line.operators[1:] if _is_sum(line) and len(references) == 1 else line.operators, references)

    def _operands(self, line: Line) -> tuple[Reference, ...]:
        """What a line reads; of a call, what the function makes something of."""
        if line.callee is None:
            return line.references
        return tuple(line.references[place] for place in self.function(line.callee).inputs)

    def _zeros(self, template: Template) -> set[Reference]:
        """What is always zero: written by a multiplication with 0, or from zeros alone."""
        read = {*template.outputs, *(reference for line in template.lines for reference in line.references)}
        zeros: set[Reference] = set()
        for number, line in enumerate(template.lines):
            operands = self._operands(line)
            if (operands and zeros.issuperset(operands)) or any(map(_is_zero, line.operators)):
                zeros.update(reference for reference in read if reference[0] == number)
            elif line.callee is not None:
                zeros.update((number, output) for output in self.function(line.callee).zeros)
        return zeros


def _moved(references: tuple[Reference, ...], place: dict[int, int]) -> tuple[Reference, ...]:
    return tuple((place[source], output) for source, output in references)


def _is_sum(line: Line) -> bool:
    """Whether the line begins with a sum of computed values."""
    return line.callee is None and len(line.references) > 1 and line.operators[0] in _SUMS


@lru_cache(maxsize=4096)
def _is_zero(operator: str) -> bool:
    """Whether the operator multiplies by a constant 0."""
    found = _SCALED.fullmatch(operator)
    return found is not None and not numpy_helper.to_array(read_literal(found["right"] or found["left"])).any()
