"""What every line of a text writes and what it costs, worked out from the text alone.

A text leaves out what follows from it: widths, resolutions, shapes of weights. Reading it back (``parse``) brings them
to light; here they are counted line by line. Lines recur from network to network, so each is worked out once for the
tensors that it reads.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from search_spaces.analysis import count_macs, count_parameters
from search_spaces.tensors import Tensor
from surrogates.text.parse import Body, GraphReader, Named, Sections, Slots, sections

#: Columns of ``line_costs``.
COSTS = ("channels", "rows", "parameters", "macs")


def line_costs(text: str) -> np.ndarray:
    """Natural logarithms of 1 + channels and rows that a line writes, parameters and MACs of all that it does.

    A call counts what the function does. A line of a function counts for all of its calls: parameters and MACs add up,
    channels and rows are geometric means. Headers and ``out`` have zeros.

    Args:
        text: A linearised graph.

    Returns:
        Float32, shape ``(lines, 4)``, columns as in ``COSTS``.

    Raises:
        InvalidGraphError: A line that cannot be read.
    """
    reader = _CostReader(sections(text))
    reader.run()
    done = np.array(reader.log, dtype=float).reshape(-1, 1 + len(COSTS))
    totals = np.zeros((text.count("\n") + 1, 1 + len(COSTS)))
    np.add.at(totals, done[:, 0].astype(int), np.column_stack([np.ones(len(done)), done[:, 1:]]))
    runs = np.maximum(totals[:, :1], 1)
    return np.concatenate([totals[:, 1:3] / runs, np.log1p(totals[:, 3:])], axis=1).astype(np.float32)


class _Ran(NamedTuple):
    """A line that ran: its number, logarithms of what it writes, and what it cost."""

    number: int
    channels: float
    rows: float
    parameters: int
    macs: int


class _Called(NamedTuple):
    """A call that ran.

    Attributes:
        outputs: What it returned.
        left: The slots that it did not take; none in the main graph.
        spent: Parameters and MACs.
        log: Its part of the log.
    """

    outputs: list[Named]
    left: tuple[str, ...]
    spent: tuple[int, int]
    log: list[_Ran]


class _CostReader(GraphReader):
    """Logs what every line costs, and makes no nodes; a call on the same tensors and slots runs once."""

    def __init__(self, text: Sections) -> None:
        super().__init__(text)
        self.log: list[_Ran] = []
        self.called: dict[tuple[object, ...], _Called] = {}
        self.parameters = self.macs = 0

    def _line(self, number: int, line: re.Match[str], sources: list[Named], slots: Slots | None) -> list[Named]:
        parameters, macs = self.parameters, self.macs
        outputs = super()._line(number, line, sources, slots)
        spent = self.parameters - parameters, self.macs - macs
        self.log.append(_Ran(number, *_log_sizes(outputs[0].tensor), *spent))
        return outputs

    def _call(self, call: re.Match[str], sources: list[Named], slots: Slots | None, line: str) -> list[Named]:
        key = (call[0], tuple(source.tensor for source in sources), None if slots is None else slots.left)
        if (known := self.called.get(key)) is None:
            first, parameters, macs = len(self.log), self.parameters, self.macs
            outputs = super()._call(call, sources, slots, line)
            left = () if slots is None else slots.left
            spent = self.parameters - parameters, self.macs - macs
            self.called[key] = _Called(outputs, left, spent, self.log[first:])
            return outputs
        if slots is not None:
            slots.left = known.left
        self.parameters += known.spent[0]
        self.macs += known.spent[1]
        self.log += known.log
        return known.outputs

    def chain(self, text: str, sources: list[Named], slots: Slots | None) -> list[Named]:
        done = _chain_done(text, tuple(source.tensor for source in sources), None if slots is None else slots.left)
        self.parameters += done.parameters
        self.macs += done.macs
        if slots is not None:
            slots.left = done.left
        return [Named("", tensor) for tensor in done.outputs]


class _Done(NamedTuple):
    """What a chain of operators did.

    Attributes:
        outputs: What it wrote.
        parameters: Trainable parameters of its weights.
        macs: Multiply-accumulates.
        left: The slots that it did not take.
    """

    outputs: tuple[Tensor, ...]
    parameters: int
    macs: int
    left: tuple[str, ...]


@lru_cache(maxsize=1 << 16)
def _chain_done(text: str, sources: tuple[Tensor, ...], left: tuple[str, ...] | None) -> _Done:
    """Run a chain on its own; ``left`` is None in the main graph, where slots stand in the line."""
    reader, slots = GraphReader(Sections([], [], Body(0, 0, []))), None if left is None else Slots(left)
    outputs = reader.chain(text, [reader.data_input(tensor) for tensor in sources], slots)
    model = reader.model(outputs)
    counts = count_parameters(model), count_macs(model)
    return _Done(tuple(output.tensor for output in outputs), *counts, () if slots is None else slots.left)


@lru_cache(maxsize=1 << 16)
def _log_sizes(tensor: Tensor) -> tuple[float, float]:
    """Logarithms of 1 + channels and rows; 1 where a tensor has none."""
    dims = [dim if isinstance(dim, int) else 1 for dim in tensor.shape or ()]
    channels, rows = (dims[axis] if len(dims) > axis else 1 for axis in (1, 2))
    return math.log1p(channels), math.log1p(rows)
