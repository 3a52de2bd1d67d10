"""Texts as model inputs: tokens, and which tokens of which lines may see each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnx
import torch

from surrogates.text.linearize import linearize


class TextBatch(Protocol):
    """Padded texts on one device: what every encoder is given."""

    @property
    def ids(self) -> torch.Tensor:
        """Long ``(b, t)``."""

    @property
    def present(self) -> torch.Tensor:
        """Bool ``(b, t)``, false at padding."""

    def to(self, device: torch.device | str) -> TextBatch:
        """The batch on ``device``."""


class EncodedText(Protocol):
    """One text, ready for batching with others of its class."""

    @property
    def ids(self) -> np.ndarray:
        """Token ids ``(t,)``."""

    @classmethod
    def collate(cls, rows: Sequence[Any]) -> TextBatch:
        """Pad ``rows``, all of this class, to the longest of them."""


class EncodedGraph(NamedTuple):
    """One text with its wiring.

    Attributes:
        ids: Token ids ``(t,)``.
        lines: Line of each token ``(t,)``.
        producers: Bool ``(lines, lines)``, a line's own producers and itself.
        ancestors: Bool ``(lines, lines)``, a line's ancestors and itself.
        operands: Bool ``(lines, lines)``, what a line reads, also through lines that add or concatenate.
    """

    ids: np.ndarray
    lines: np.ndarray
    producers: np.ndarray
    ancestors: np.ndarray
    operands: np.ndarray

    @classmethod
    def collate(cls, rows: Sequence[EncodedGraph]) -> GraphBatch:
        """See ``EncodedText``."""
        length = max(len(graph.ids) for graph in rows)
        ids = np.zeros((len(rows), length), dtype=np.int64)
        present = np.zeros((len(rows), length), dtype=bool)
        producers, ancestors, operands = np.zeros((3, len(rows), length, length), dtype=bool)
        for row, graph in enumerate(rows):
            size = len(graph.ids)
            ids[row, :size] = graph.ids
            present[row, :size] = True
            pairs = np.ix_(graph.lines, graph.lines)
            producers[row, :size, :size] = graph.producers[pairs]
            ancestors[row, :size, :size] = graph.ancestors[pairs]
            operands[row, :size, :size] = graph.operands[pairs]
        return GraphBatch(*(torch.from_numpy(array) for array in (ids, present, producers, ancestors, operands)))


@dataclass(frozen=True)
class GraphBatch:
    """Padded graphs.

    Attributes:
        ids: Long ``(b, t)``.
        present: Bool ``(b, t)``, false at padding.
        producers: Bool ``(b, t, t)``: token ``j`` lies in a line that token ``i``'s line reads, or in the same line.
        ancestors: Bool ``(b, t, t)``, likewise for ancestors.
        operands: Bool ``(b, t, t)``: token ``j`` lies in a line that token ``i``'s line reads, be it through lines that
            only add or concatenate.
    """

    ids: torch.Tensor
    present: torch.Tensor
    producers: torch.Tensor
    ancestors: torch.Tensor
    operands: torch.Tensor

    def to(self, device: torch.device | str) -> GraphBatch:
        """The batch on ``device``."""
        parts = (self.ids, self.present, self.producers, self.ancestors, self.operands)
        return GraphBatch(*(part.to(device) for part in parts))


class PlainText(NamedTuple):
    """One text as tokens alone.

    Attributes:
        ids: Token ids ``(t,)``.
        padding: Id of the padding token.
    """

    ids: np.ndarray
    padding: int

    @classmethod
    def collate(cls, rows: Sequence[PlainText]) -> PlainBatch:
        """See ``EncodedText``."""
        length = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), length), rows[0].padding, dtype=np.int64)
        present = np.zeros((len(rows), length), dtype=bool)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = row.ids
            present[i, : len(row.ids)] = True
        return PlainBatch(torch.from_numpy(ids), torch.from_numpy(present))


@dataclass(frozen=True)
class PlainBatch:
    """Padded texts; see ``TextBatch``."""

    ids: torch.Tensor
    present: torch.Tensor

    def to(self, device: torch.device | str) -> PlainBatch:
        """The batch on ``device``."""
        return PlainBatch(self.ids.to(device), self.present.to(device))


def as_text(graph: onnx.ModelProto | str) -> str:
    """The text of a graph; a string is taken to be one already."""
    return graph if isinstance(graph, str) else linearize(graph)


def collate(texts: Sequence[EncodedText]) -> TextBatch:
    """Pad encoded texts, all of one class, to the longest of the batch; on the CPU."""
    return type(texts[0]).collate(texts)
