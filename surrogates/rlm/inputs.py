"""Texts as model inputs: tokens, and which tokens of which lines may see each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnx
import torch

from surrogates.rlm.config import ReadingConfig
from surrogates.text.linearize import in_other_orders, linearize


class TextBatch(Protocol):
    """Padded texts on one device: what every encoder is given."""

    @property
    def ids(self) -> torch.Tensor:
        """Long ``(b, t)``."""

    @property
    def present(self) -> torch.Tensor:
        """Bool ``(b, t)``, false at padding."""


class EncodedText(Protocol):
    """One text, ready for batching with others of its class; iterating gives all of its parts."""

    def __iter__(self) -> Iterator[Any]: ...

    @property
    def ids(self) -> np.ndarray:
        """Token ids ``(t,)``."""

    @classmethod
    def collate(cls, rows: Sequence[Any], device: torch.device | str) -> TextBatch:
        """Pad ``rows``, all of this class, to the longest of them, on ``device``."""


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
    def collate(cls, rows: Sequence[EncodedGraph], device: torch.device | str) -> GraphBatch:
        """See ``EncodedText``. Wires travel by line and become pairs of tokens on the device: there are far fewer."""
        length, count = max(len(graph.ids) for graph in rows), max(len(graph.producers) for graph in rows)
        ids = padded([graph.ids for graph in rows], (length,)).to(device)
        place = padded([graph.lines for graph in rows], (length,), count).to(device)  # padding: a line without wires
        kinds = [(g.producers | g.ancestors << 1 | g.operands << 2).astype(np.uint8) for g in rows]
        wires = padded(kinds, (count + 1, count + 1)).to(device)
        pairs = wires.gather(1, place[:, :, None].expand(-1, -1, count + 1))
        pairs = pairs.gather(2, place[:, None, :].expand(-1, length, -1))
        return GraphBatch(ids, place < count, *(pairs.bitwise_and(bit).bool() for bit in (1, 2, 4)))


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


class PlainText(NamedTuple):
    """One text as tokens alone.

    Attributes:
        ids: Token ids ``(t,)``.
        padding: Id of the padding token.
    """

    ids: np.ndarray
    padding: int

    @classmethod
    def collate(cls, rows: Sequence[PlainText], device: torch.device | str) -> PlainBatch:
        """See ``EncodedText``."""
        length = max(len(row.ids) for row in rows)
        ids = padded([row.ids for row in rows], (length,), rows[0].padding)
        present = padded([np.ones(len(row.ids), dtype=bool) for row in rows], (length,))
        return PlainBatch(ids.to(device), present.to(device))


@dataclass(frozen=True)
class PlainBatch:
    """Padded texts; see ``TextBatch``."""

    ids: torch.Tensor
    present: torch.Tensor


def as_text(graph: onnx.ModelProto | str, reading: ReadingConfig) -> str:
    """What is read of a graph; a string is taken to be that already."""
    return graph if isinstance(graph, str) else linearize(graph, live=reading.live, inlining=reading.inlining)


def in_orders(graph: onnx.ModelProto, count: int, reading: ReadingConfig, rng: np.random.Generator) -> list[str]:
    """What is read of a graph, its lines in ``count`` random orders."""
    return in_other_orders(graph, count, rng=rng, live=reading.live, inlining=reading.inlining)


def padded(arrays: Sequence[np.ndarray], shape: tuple[int, ...], fill: int = 0) -> torch.Tensor:
    """Arrays of one type, none larger than ``shape``, as one tensor ``(len(arrays), *shape)``, ``fill`` beyond them."""
    dtype = np.int64 if np.issubdtype(arrays[0].dtype, np.signedinteger) else arrays[0].dtype
    found = np.full((len(arrays), *shape), fill, dtype=dtype)
    for row, array in enumerate(arrays):
        corner: tuple[slice, ...] = tuple(slice(size) for size in array.shape)
        found[row][corner] = array
    return torch.from_numpy(found)


def collate(texts: Sequence[EncodedText], device: torch.device | str = "cpu") -> TextBatch:
    """Pad encoded texts, all of one class, to the longest of the batch, on ``device``."""
    return type(texts[0]).collate(texts, device)
