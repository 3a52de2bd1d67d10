r"""ONNX graph to text: one line a block, relative references, every function written once.

A NAS-Bench-201 network reads::

    def
    Relu|Conv k3|BatchNormalization
    Mul(~,=0f) <2
    …
    Sum <1 2 4
    in 3x32x32
    Conv k3 c16|BatchNormalization
    F1*5
    F2:c32;;c32 @16
    …

- A *line* is a chain of operators joined by ``|``, each feeding only the next. ``<2 3`` names the lines it reads,
  counted backwards; a line that reads just the previous one shows nothing.
- ``def`` opens a function (``def 2`` with two inputs, which count as the lines before its first); ``F1`` calls the
  first function, ``F1*5`` five times in a row. A mere chain is written where it is called, and so is a function called
  once, unless ``inlining`` is off. Equal bodies are one function, whatever their names and widths.
- Weights are not written: their shapes follow from the operators. Where they do not (a convolution that changes the
  number of channels), the line shows ``c64``, and a call lists such slots of its body in order: ``F2:c32;;c32``.
- In the main graph ``@16`` shows a change of height and width.

``surrogates.text.parse`` reads the text back; the graph is isomorphic to the original with its functions inlined.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import onnx

from search_spaces.shapes import propagate
from search_spaces.tensors import Tensor
from surrogates.text.foreign import normalize
from surrogates.text.live import live_part
from surrogates.text.orders import reordered
from surrogates.text.outline import outline
from surrogates.text.spelling import SLOT
from surrogates.text.templates import Fact, Instance, Reference, Template, instance_of

#: A call line: function, repetitions, slots, and the references of the first call.
_REPEATED = re.compile(r"(?P<name>F\d+)(?:\*(?P<times>\d+))?(?P<slots>:[^ ]*)?(?P<rest> <[\d. ]*)?")


def linearize(model: onnx.ModelProto, *, outlining: bool = True, live: bool = False, inlining: bool = True) -> str:
    """The text of ``model``; see the module's description of the language.

    Args:
        model: Any ONNX model of opset 13 or later; values of weights are not needed.
        outlining: Whether repeated parts of a model without functions become functions of the text.
        live: Leave out what the result does not depend on (``surrogates.text.live``).
        inlining: Whether a function that is called once is written where it is called. Without, a block of the model
            reads the same however often the network has it, and the main graph is shorter, the text longer.

    Raises:
        InvalidGraphError: Operators unknown to ONNX, shapes that do not fit, or control flow.
    """
    return _write(*_read(model, outlining, live), inlining=inlining)


def in_other_orders(
    model: onnx.ModelProto, count: int, *, rng: np.random.Generator, live: bool = False, inlining: bool = True
) -> list[str]:
    """Texts of ``model`` with the lines of every body in ``count`` random topological orders; may hold equal texts.

    Raises:
        InvalidGraphError: As ``linearize``.
    """
    instance, headers = _read(model, True, live)
    return [_write(reordered(instance, rng=rng), headers, inlining=inlining) for _ in range(count)]


def _read(model: onnx.ModelProto, outlining: bool, live: bool) -> tuple[Instance, list[str]]:
    """The main graph as a template with its facts, and the header lines."""
    model = normalize(model)
    if outlining and not model.functions:
        model = outline(model)
    body = propagate(model)
    instance = live_part(instance_of(body)) if live else instance_of(body)
    return instance, [_header(body.tensors[name]) for name in body.inputs[: instance.template.inputs]]


def _header(tensor: Tensor) -> str:
    dims = tensor.shape
    if dims is None:
        return "in"
    batch = "" if dims and not (isinstance(dims[0], int) and dims[0] != 1) else "*"
    kind = "" if tensor.elem_type == onnx.TensorProto.FLOAT else f" t{tensor.elem_type}"
    return f"in{kind} {batch}{'x'.join('?' if not isinstance(d, int) else str(d) for d in dims[0 if batch else 1 :])}"


def _write(main: Instance, headers: list[str], *, inlining: bool) -> str:
    sites: Counter[Template] = Counter()
    _count_sites(main.template, sites, set())
    least = 2 if inlining else 1
    writer = _Writer({template for template, count in sites.items() if count >= least})
    body = writer.body(main.template, main.facts, first=len(headers))
    return "\n".join([*writer.definitions, *headers, *body])


def _count_sites(template: Template, sites: Counter[Template], seen: set[Template]) -> None:
    if template in seen:
        return
    seen.add(template)
    for line in template.lines:
        if line.callee is not None:
            sites[line.callee] += 1
            _count_sites(line.callee, sites, seen)


class _Writer:
    """Writes bodies; functions get their numbers in the order in which they are finished."""

    def __init__(self, functions: set[Template]) -> None:
        self.functions = functions
        self.numbers: dict[Template, int] = {}
        self.definitions: list[str] = []

    def body(self, template: Template, facts: tuple[Fact, ...] | None, first: int = 0) -> list[str]:
        """Lines of a body; ``facts`` is None inside functions, ``first`` the number of header lines before it."""
        written: list[str] = []
        outputs = self._splice(template, facts, [(i - first, 0) for i in range(first)], written)
        if outputs != [(len(written) - 1, 0)]:
            written.append("out" + self._references(outputs, len(written), always=True))
        return written

    def _splice(
        self, template: Template, facts: tuple[Fact, ...] | None, inputs: list[Reference], written: list[str]
    ) -> list[Reference]:
        """Append the lines of a body whose inputs stand at ``inputs``; returns where its outputs stand."""
        places: list[list[Reference]] = []
        uses = template.uses

        def resolve(reference: Reference) -> Reference:
            line, output = reference
            if line < 0:
                return inputs[line + template.inputs]
            return places[line][output] if len(places[line]) > 1 or output == 0 else (places[line][0][0], output)

        for index, line in enumerate(template.lines):
            references = [resolve(reference) for reference in line.references]
            fact = facts[index] if facts is not None else None
            if line.callee is not None and line.callee not in self.functions:
                inner = fact.inner.facts if fact is not None and fact.inner is not None else None
                places.append(self._splice(line.callee, inner, references, written))
                continue
            number = len(written)
            shown = self._references(references, number)
            if line.callee is not None:
                name, slots, mark = f"F{self._number(line.callee)}", _call_slots(fact), fact.mark if fact else ""
                if index and uses[index - 1] == 1 and line.references == ((index - 1, 0),) and not mark:
                    previous = _REPEATED.fullmatch(written[-1])
                    if previous and (previous["name"], previous["slots"] or "") == (name, slots):
                        times = int(previous["times"] or 1) + 1
                        written[-1] = f"{name}*{times}{slots}{previous['rest'] or ''}"
                        places.append(places[-1])
                        continue
                written.append(f"{name}{slots}{shown}{mark}")
                places.append([(number, i) for i in range(len(line.callee.outputs))])
            else:
                written.append(f"{_fill('|'.join(line.operators), fact)}{shown}{fact.mark if fact else ''}")
                places.append([(number, 0)])
        return [resolve(reference) for reference in template.outputs]

    def _number(self, template: Template) -> int:
        if template not in self.numbers:
            lines = self.body(template, None, first=template.inputs)
            header = "def" if template.inputs == 1 else f"def {template.inputs}"
            self.definitions.append("\n".join([header, *lines]))
            self.numbers[template] = len(self.numbers) + 1
        return self.numbers[template]

    @staticmethod
    def _references(references: list[Reference], number: int, *, always: bool = False) -> str:
        shown = [f"{number - line}" + (f".{output}" if output else "") for line, output in references]
        return "" if shown == ["1"] and not always else " <" + " ".join(shown)


def _fill(text: str, fact: Fact | None) -> str:
    if fact is None or not fact.slots:
        return text.replace(SLOT, "")
    pieces = text.split(SLOT)
    return "".join(piece + slot for piece, slot in zip(pieces, [*fact.slots, ""], strict=True))


def _call_slots(fact: Fact | None) -> str:
    if fact is None or not any(fact.slots):
        return ""
    return ":" + ";".join(slot.strip() for slot in fact.slots).rstrip(";")
