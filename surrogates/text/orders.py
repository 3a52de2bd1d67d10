"""The same network written in another order: what a reader of texts must learn not to care about.

Lines of a body may stand in any topological order, and operands of a sum may be swapped; the network stays the same.
Such texts are further training data (augmentation).
"""

from __future__ import annotations

import numpy as np

from surrogates.text.templates import Fact, Instance, Line, Reference, Template

#: Operators whose operands may be swapped, where the text shows nothing but their name. Concat numbers the channels.
COMMUTATIVE = frozenset({"Add", "Mul", "Sum", "Max", "Min", "Mean", "And", "Or", "Xor"})


def reordered(instance: Instance, *, rng: np.random.Generator) -> Instance:
    """``instance`` with the lines of every body in a random topological order; calls of one body stay equal."""
    return _Reorderer(rng).instance(instance)


class _Reorderer:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.done: dict[Template, tuple[Template, list[int]]] = {}

    def instance(self, instance: Instance) -> Instance:
        template, order = self._template(instance.template)
        return Instance(template, tuple(self._fact(instance.facts[index]) for index in order))

    def _fact(self, fact: Fact) -> Fact:
        if fact.inner is None:
            return fact
        inner = self.instance(fact.inner)
        return Fact(tuple(slot for each in inner.facts for slot in each.slots), fact.mark, inner)

    def _template(self, template: Template) -> tuple[Template, list[int]]:
        """The template in its new order, and the old numbers of its lines."""
        if template not in self.done:
            order = self._order(template)
            place = {old: new for new, old in enumerate(order)}
            lines = tuple([self._line(template.lines[old], place) for old in order])
            self.done[template] = Template(template.inputs, lines, _moved(template.outputs, place)), order
        return self.done[template]

    def _line(self, line: Line, place: dict[int, int]) -> Line:
        references = _moved(line.references, place)
        if line.callee is not None:
            return Line(line.operators, references, self._template(line.callee)[0])
        if len(references) > 1 and line.operators[0] in COMMUTATIVE:
            references = tuple([references[i] for i in self.rng.permutation(len(references))])
        return Line(line.operators, references)

    def _order(self, template: Template) -> list[int]:
        """A random order of the lines in which every line still follows those it reads."""
        waiting = [{source for source, _ in line.references if source >= 0} for line in template.lines]
        readers: list[list[int]] = [[] for _ in waiting]
        for reader, sources in enumerate(waiting):
            for source in sources:
                readers[source].append(reader)
        ready = [line for line, sources in enumerate(waiting) if not sources]
        order: list[int] = []
        while ready:
            line = ready.pop(int(self.rng.integers(len(ready))))
            order.append(line)
            for reader in readers[line]:
                waiting[reader].discard(line)
                if not waiting[reader]:
                    ready.append(reader)
        return order


def _moved(references: tuple[Reference, ...], place: dict[int, int]) -> tuple[Reference, ...]:
    return tuple([(place[line] if line >= 0 else line, output) for line, output in references])
