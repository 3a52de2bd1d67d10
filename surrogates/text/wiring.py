"""Which line of a text feeds which, read from the text alone: what the encoder's masked heads look at."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from search_spaces.errors import InvalidGraphError
from surrogates.text.parse import CALL, sections

_REFERENCES = re.compile(r" <([\d. ]*)(?: @\S+)?$")
_CALL = re.compile(r"F(\d+)(?=[*:\s]|$)")
#: Lines that begin by bringing others together; an activation may follow.
_MERGE = re.compile(r"(Add|Sum|Concat)\b")


@dataclass(frozen=True)
class Wiring:
    """The lines of a text as a directed acyclic graph.

    Attributes:
        producers: Bool ``(lines, lines)``; ``producers[i, j]`` if line ``i`` reads line ``j``. A function's header
            stands for its inputs; a call reads, besides its operands, the lines that the function returns.
        ancestors: Transitive closure of ``producers``.
        operands: ``producers``, and what a line reads through lines that add or concatenate: the operations that
            feed an operation, however their results are brought together.
        entries: Bool ``(lines,)``, the lines of functions that read nothing but the function's inputs.
    """

    producers: np.ndarray
    ancestors: np.ndarray
    operands: np.ndarray
    entries: np.ndarray


def wiring(text: str) -> Wiring:
    """Read the wiring of a linearised text.

    Raises:
        InvalidGraphError: A reference that points nowhere.
    """
    lines = text.split("\n")
    producers = np.zeros((len(lines), len(lines)), dtype=bool)
    entries = np.zeros(len(lines), dtype=bool)
    results: list[list[int]] = []  # per function, the lines it returns
    header, inputs, first, inside = 0, 0, 0, False
    for i, line in enumerate(lines):
        if line.startswith(("def", "in")) and line.split(" ", 1)[0] in ("def", "in"):
            if inside:
                results.append(_returned(lines, i - 1, header, inputs, first))
            inside = line.startswith("def")
            if inside:
                header, first = i, i + 1
                inputs = int(line[4:]) if len(line) > 3 else 1
            elif i and not lines[i - 1].startswith("in"):
                header, inputs, first = i, 0, i
            continue
        sources = _read(line, i, header, inputs, first)
        producers[i, sources] = True
        entries[i] = inside and set(sources) == {header}
        if (call := _CALL.match(line)) is not None:
            number = int(call[1])
            if not 1 <= number <= len(results):
                raise InvalidGraphError(f"line {i} calls F{number}, but only {len(results)} functions are defined")
            producers[i, results[number - 1]] = True
    merges = np.array([bool(_MERGE.match(line)) for line in lines])
    return Wiring(producers, _closure(producers), through(producers, merges), entries)


def through(producers: np.ndarray, transparent: np.ndarray) -> np.ndarray:
    """What every line reads, also through the lines that are ``transparent``.

    Args:
        producers: Bool ``(lines, lines)``, what a line reads; rows in topological order.
        transparent: Bool ``(lines,)``.
    """
    operands = producers.copy()
    for i in range(len(operands)):
        for j in np.flatnonzero(producers[i] & transparent):
            operands[i] |= operands[j]
    return operands


def depths(producers: np.ndarray) -> np.ndarray:
    """Number of lines on the longest way to each, itself included, ``(lines,)``; rows in topological order."""
    found = np.ones(len(producers), dtype=np.int64)
    for i in range(len(producers)):
        found[i] += max(found[np.flatnonzero(producers[i])], default=0)
    return found


def bodies(text: str) -> np.ndarray:
    """How often the call in a line runs each line of the functions, those called inside included.

    Returns:
        Float32 ``(lines, lines)``; the rows of lines that call nothing are zero.

    Raises:
        InvalidGraphError: A call of a function that is not defined.
    """
    parts, count = sections(text), text.count("\n") + 1
    runs = np.zeros((count, count), dtype=np.float32)
    spans = [slice(body.first, body.first + len(body.lines)) for body in parts.functions]
    for defined, body in enumerate([*parts.functions, parts.main]):
        for i, line in enumerate(body.lines, start=body.first):
            call = CALL.match(line)
            if call is None:
                continue
            if not 1 <= int(call["number"]) <= defined:
                raise InvalidGraphError(f"line {i} calls F{call['number']}, but only {defined} functions are defined")
            span, times = spans[int(call["number"]) - 1], int(call["times"] or 1)
            runs[i, span] += times
            runs[i] += times * runs[span].sum(axis=0)
    return runs


def _read(line: str, i: int, header: int, inputs: int, first: int) -> list[int]:
    """Lines that line ``i`` reads; what lies before a function's first line is its header."""
    match = _REFERENCES.search(line)
    steps = [1] if match is None else [int(word.split(".")[0]) for word in match[1].split()]
    sources = []
    for step in steps:
        source = i - step
        if source >= first:
            sources.append(source)
        elif source >= first - inputs:
            sources.append(header)
        else:
            raise InvalidGraphError(f"line {i} ({line!r}) reads {step} lines back, where nothing is")
    return sources


def _returned(lines: list[str], last: int, header: int, inputs: int, first: int) -> list[int]:
    if lines[last].startswith("out "):
        return _read(lines[last], last, header, inputs, first)
    return [last]


def _closure(producers: np.ndarray) -> np.ndarray:
    """Transitive closure; rows are in topological order."""
    ancestors = producers.copy()
    for i in range(len(ancestors)):
        for j in np.flatnonzero(producers[i]):
            ancestors[i] |= ancestors[j]
    return ancestors
