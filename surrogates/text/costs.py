"""What every line of a text writes and what it costs, worked out from the text alone.

A text leaves out what follows from it: widths, resolutions, shapes of weights. Reading it back (``parse``) brings them
to light; here they are counted line by line. Lines recur from network to network, so each is worked out once for the
tensors that it reads.
"""

from __future__ import annotations

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
    reader = _CostReader(sections(text), text.count("\n") + 1)
    reader.run()
    runs = np.maximum(reader.runs, 1)[:, None]
    return np.concatenate([reader.sizes / runs, np.log1p(reader.costs)], axis=1).astype(np.float32)


class _CostReader(GraphReader):
    """Adds up what the lines cost, and makes no nodes."""

    def __init__(self, text: Sections, lines: int) -> None:
        super().__init__(text)
        self.runs = np.zeros(lines, dtype=np.int64)
        self.sizes = np.zeros((lines, 2))
        self.costs = np.zeros((lines, 2))
        self.spent = np.zeros(2)

    def _line(self, number: int, line: re.Match[str], sources: list[Named], slots: Slots | None) -> list[Named]:
        before = self.spent
        outputs = super()._line(number, line, sources, slots)
        self.runs[number] += 1
        self.sizes[number] += _log_sizes(outputs[0].tensor)
        self.costs[number] += self.spent - before
        return outputs

    def chain(self, text: str, sources: list[Named], slots: Slots | None) -> list[Named]:
        done = _chain_done(text, tuple(source.tensor for source in sources), None if slots is None else slots.left)
        self.spent = self.spent + np.array([done.parameters, done.macs])
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


def _log_sizes(tensor: Tensor) -> np.ndarray:
    dims = [dim if isinstance(dim, int) else 1 for dim in tensor.shape or ()]
    return np.log1p([dims[axis] if len(dims) > axis else 1 for axis in (1, 2)])
