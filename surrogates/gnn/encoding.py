"""Graphs as tensors: a vocabulary learned from the training graphs, batches of dense adjacency matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from search_spaces.errors import UsageError
from surrogates.gnn.graph_data import BETWEEN, INPUT, OUTPUT, SIZES, Kind, RawGraph

#: What was read of one network.
Parts = tuple[RawGraph, ...]
#: Index of a word never seen in training. (Index 0 names nothing.)
UNKNOWN = 1
#: A size that varies less than this over all training nodes says nothing.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class ReadingConfig:
    """What of a model is read.

    Attributes:
        graph: ``cell`` reads the cells that differ between the training networks, and the calls of the main graph
            where there are none; ``block`` always reads the calls of the main graph, ``full`` the whole network; see
            ``surrogates.gnn.graph_data``.
        sizes: Give the nodes of cells their channels, resolution, parameters, MACs and calls besides their operations.
            Those of whole networks always have them: calls of one block differ in little else.
        dead: ``keep`` reads operations that carry zeros only or do not reach the output, as a device runs them;
            ``drop`` leaves them out, for they do not touch the accuracy. Nodes are left out whole: what is dead inside
            a block stays.
        fuse: Outside of cells, read an operator with the normalisation and activation after it as one node.
    """

    graph: Literal["cell", "block", "full"] = "cell"
    sizes: bool = True
    dead: Literal["keep", "drop"] = "keep"
    fuse: bool = True

    def __post_init__(self) -> None:
        if self.graph not in ("cell", "block", "full"):
            raise UsageError(f"unknown graph {self.graph!r}; choose from: cell, block, full")
        if self.dead not in ("keep", "drop"):
            raise UsageError(f"unknown treatment {self.dead!r} of dead operations; choose from: keep, drop")

    @property
    def without_cells(self) -> Kind:
        """The reading of networks of which no cells are read."""
        return "full" if self.graph == "full" else "blocks"


class GraphBatch(NamedTuple):
    """``b`` graphs of at most ``n`` nodes; node 0 is the output.

    Attributes:
        operations: How often each word of the vocabulary names a node, scaled to length 1, ``(b, n, words)``; one 1
            for a node of one operation, nothing beyond a graph's nodes.
        adjacency: 1 at ``[b, target, source]`` of each wire, ``(b, n, n)``.
        mask: 1 for nodes, ``(b, n, 1)``.
        features: Sizes and cell of each node, ``(b, n, f)``.
        inputs: Known values of each graph, normalised, ``(b, k)``.
    """

    operations: Tensor
    adjacency: Tensor
    mask: Tensor
    features: Tensor
    inputs: Tensor

    def rows(self, index: Tensor) -> GraphBatch:
        """The graphs at ``index``."""
        return GraphBatch(*[part[index] for part in self])


@dataclass(frozen=True)
class Encoder:
    """Turns readings into batches; made by ``Encoder.learn`` from training graphs.

    Attributes:
        config: What is read.
        cells: Names of the cells read; empty for whole networks.
        entry: Operation that every input of a cell passes first, and that dissolves into edges there; empty for none.
        vocabulary: Words that name operations, from index ``UNKNOWN + 1`` on.
        centre: Mean of each size over the training nodes.
        scale: Its standard deviation; 0 leaves the size out.
        nodes: Most nodes of a training graph.
    """

    config: ReadingConfig
    cells: tuple[str, ...]
    entry: str
    vocabulary: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    nodes: int

    @classmethod
    def learn(cls, readings: Sequence[Parts], config: ReadingConfig, cells: tuple[str, ...] = ()) -> Encoder:
        """Learn vocabulary and normalisation.

        Args:
            readings: The graphs of each training network: all its cells, or the whole network.
            config: What is read.
            cells: ``varying_cells`` of the readings; empty for whole networks.
        """
        draft = cls(config, cells, "", (), (0.0,) * SIZES, (0.0,) * SIZES, 0)
        entry = _entry([part for reading in readings for part in draft._chosen(reading)]) if cells else ""
        draft = cls(config, cells, entry, (), draft.centre, draft.scale, 0)
        graphs = [draft._graph(reading) for reading in readings]
        names = {operation for graph, _ in graphs for operation in graph.operations}
        vocabulary = tuple(sorted({word for name in names for word in name.split(BETWEEN)}))
        sizes = np.array([row for graph, _ in graphs for row in graph.sizes[1:]])  # the output has none
        centre, deviation = sizes.mean(axis=0), sizes.std(axis=0)
        scale = np.where((deviation > _CONSTANT) & draft.sized, deviation, 0.0)
        nodes = max(len(graph.operations) for graph, _ in graphs)
        return cls(config, cells, entry, vocabulary, tuple(centre.tolist()), tuple(scale.tolist()), nodes)

    @property
    def kind(self) -> Kind:
        """The reading that it encodes."""
        return "cells" if self.cells else self.config.without_cells

    @property
    def words(self) -> int:
        """Number of vocabulary indices."""
        return UNKNOWN + 1 + len(self.vocabulary)

    @property
    def sized(self) -> bool:
        """Whether nodes have sizes."""
        return self.config.sizes or not self.cells

    @property
    def features(self) -> int:
        """Number of features a node."""
        return (SIZES if self.sized else 0) + (len(self.cells) if len(self.cells) > 1 else 0)

    def encode(self, readings: Sequence[Parts], inputs: np.ndarray, *, nodes: int = 0) -> GraphBatch:
        """All ``readings`` as one batch.

        Args:
            readings: Graphs of ``b`` networks.
            inputs: Known values, shape ``(b, k)``, normalised.
            nodes: Pad to at least so many nodes.

        Raises:
            UsageError: A model has none of the cells that were learned.
        """
        graphs = [self._graph(reading) for reading in readings]
        n = max([nodes, *(len(graph.operations) for graph, _ in graphs)])
        index = {word: UNKNOWN + 1 + k for k, word in enumerate(self.vocabulary)}
        vectors: dict[str, np.ndarray] = {}
        mask = np.zeros((len(graphs), n, 1), np.float32)
        operations = np.zeros((len(graphs), n, self.words), np.float32)
        adjacency = np.zeros((len(graphs), n, n), np.float32)
        features = np.zeros((len(graphs), n, self.features), np.float32)
        scale = np.array([1 / s if s else 0.0 for s in self.scale])
        for row, (graph, owners) in enumerate(graphs):
            count = len(graph.operations)
            for name in set(graph.operations) - vectors.keys():
                counts = np.bincount([index.get(word, UNKNOWN) for word in name.split(BETWEEN)], minlength=self.words)
                vectors[name] = counts / np.linalg.norm(counts)
            operations[row, :count] = [vectors[name] for name in graph.operations]
            mask[row, :count] = 1
            if graph.edges:
                sources, targets = np.array(graph.edges).T
                adjacency[row, targets, sources] = 1
            if self.sized:
                features[row, 1:count, :SIZES] = (np.array(graph.sizes[1:]) - self.centre) * scale
            if len(self.cells) > 1:
                member = features[row, :count, -len(self.cells) :]
                for node, owner in enumerate(owners):
                    if owner >= 0:
                        member[node, owner] = 1
        return GraphBatch(
            torch.from_numpy(operations),
            torch.from_numpy(adjacency),
            torch.from_numpy(mask),
            torch.from_numpy(features),
            torch.from_numpy(np.asarray(inputs, np.float32)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint's config."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Encoder:
        """The inverse of ``to_json``."""
        lists = {key: tuple(data[key]) for key in ("cells", "vocabulary", "centre", "scale")}
        return cls(ReadingConfig(**data["config"]), entry=data["entry"], nodes=int(data["nodes"]), **lists)

    def _chosen(self, reading: Parts) -> Parts:
        """The graphs that are read of a network."""
        drop = self.config.dead == "drop"
        if not self.cells:
            parts = tuple(map(fused, reading)) if self.config.fuse else reading
            return tuple(part.without(dict.fromkeys(part.dead, ())) if drop else part for part in parts)
        cells = {part.name: part for part in reading}
        if missing := [name for name in self.cells if name not in cells]:
            raise UsageError(
                f"this surrogate reads the cells {', '.join(self.cells)}, and a network has no {', '.join(missing)}; "
                "fit on networks of its space, or read main graphs by ReadingConfig(graph='block')"
            )
        parts = tuple(dissolve(cells[name], self.entry) if self.entry else cells[name] for name in self.cells)
        return tuple(part.without(dict.fromkeys(part.dead, ())) if drop else part for part in parts)

    def _graph(self, reading: Parts) -> tuple[RawGraph, list[int]]:
        """The parts side by side with one output, and the cell of each node (-1 for the output)."""
        operations, edges, sizes, owners = [OUTPUT], [], [(0.0,) * SIZES], [-1]
        for part in self._chosen(reading):
            offset = len(operations) - 1
            operations += part.operations[1:]
            sizes += part.sizes[1:]
            edges += [(source + offset, target + offset if target else 0) for source, target in part.edges]
            owner = self.cells.index(part.name) if self.cells else -1
            owners += [owner] * (len(part.operations) - 1)
        return RawGraph("", tuple(operations), tuple(edges), tuple(sizes)), owners


def dissolve(graph: RawGraph, operation: str) -> RawGraph:
    """``graph`` without the nodes of ``operation`` that only an input feeds: their readers read the input."""
    feeding: dict[int, list[int]] = {}
    for source, target in graph.edges:
        feeding.setdefault(target, []).append(source)
    inputs = {k for k, name in enumerate(graph.operations) if name.startswith(INPUT)}
    gone = {
        k: feeding[k]
        for k, name in enumerate(graph.operations)
        if name == operation and feeding.get(k) and set(feeding[k]) <= inputs
    }
    return graph.without(gone)


@lru_cache(maxsize=1 << 16)
def fused(graph: RawGraph) -> RawGraph:
    """``graph`` with every elementwise node merged into the node before it, where nothing else reads that one.

    The merged node writes what the last of them writes, and has the parameters and MACs of all.
    """
    reads = Counter(source for source, _ in graph.edges)
    merging = set(graph.elementwise)
    before = {target: source for source, target in graph.edges if target in merging}
    operations, sizes = list(graph.operations), [list(row) for row in graph.sizes]
    first: dict[int, int] = {}  # of a merged node, the one that it became part of
    for node in graph.elementwise:  # in topological order
        source = before[node]
        if reads[source] > 1 or graph.operations[source].startswith(INPUT):
            continue
        into = first[node] = first.get(source, source)
        operations[into] += BETWEEN + operations[node]
        sizes[into][:2] = sizes[node][:2]
        sizes[into][2:4] = np.log1p(np.expm1(sizes[into][2:4]) + np.expm1(sizes[node][2:4])).tolist()
    merged = replace(graph, operations=tuple(operations), sizes=tuple(map(tuple, sizes)))
    return merged.without({node: (into,) for node, into in first.items()})


def varying_cells(readings: Sequence[Parts]) -> tuple[str, ...]:
    """Names of the cells that each network has, that differ between networks, and that copy no earlier one."""
    tables = [{cell.name: cell.wiring for cell in reading} for reading in readings]
    found: list[str] = []
    for name in dict.fromkeys(name for table in tables for name in table):
        wirings = [table.get(name) for table in tables]
        # NAS-Bench-101 writes one cell as several functions, where stacks cut widths differently.
        copied = any(wirings == [table[other] for table in tables] for other in found)
        if None not in wirings and len(set(wirings)) > 1 and not copied:
            found.append(name)
    return tuple(found)


def _entry(graphs: Sequence[RawGraph]) -> str:
    """The one operation that reads every cell input, if it is also used elsewhere: there it means something else."""
    first, later = set(), set()
    for graph in graphs:
        inputs = {k for k, name in enumerate(graph.operations) if name.startswith(INPUT)}
        readers = {target for source, target in graph.edges if source in inputs}
        first |= {graph.operations[k] for k in readers}
        later |= {name for k, name in enumerate(graph.operations) if k not in readers}
    return next(iter(first)) if len(first) == 1 and first <= later else ""
