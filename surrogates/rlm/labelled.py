"""Training data of the regression language model: encoded graphs with numbers, and the order they are seen in."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pandas as pd

from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.networks import Networks
from surrogates.rlm.config import ReadingConfig
from surrogates.rlm.inputs import EncodedText, as_text, in_orders
from surrogates.rlm.scales import Scale

#: Models, or texts already linearised.
Graphs = Sequence[onnx.ModelProto | str]


@dataclass(frozen=True)
class LabelledGraphs:
    """Graphs and what is known of them.

    Attributes:
        graphs: ``n`` encoded graphs.
        labels: ``(n, m)`` numbers on the metrics' scales; NaN where not measured.
        scales: One per metric.
        metrics: Index of each of the ``m`` metrics in the network.
        weights: Weight of each metric's loss.
        orders: The same graphs written in other orders, any number of times.
    """

    graphs: Sequence[EncodedText]
    labels: np.ndarray
    scales: Sequence[Scale]
    metrics: tuple[int, ...]
    weights: tuple[float, ...]
    orders: Sequence[Sequence[EncodedText]] = ()

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> list[EncodedText]:
        """The graphs of ``rows``, each in one of its orders."""
        if not self.orders:
            return [self.graphs[row] for row in rows]
        written = (self.graphs, *self.orders)
        return [
            written[order][row] for row, order in zip(rows, rng.integers(len(written), size=len(rows)), strict=True)
        ]

    @property
    def steps(self) -> int:
        """Tokens of the longest number."""
        return max(len(scale.format.steps) for scale in self.scales)

    def tokens(self, rows: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """Number tokens ``(b, m, steps)`` of labels jittered by ``noise`` ``(b, m)``; -1 where there is none."""
        tokens = np.full((len(rows), len(self.scales), self.steps), -1, dtype=np.int64)
        for column, scale in enumerate(self.scales):
            numbers = self.labels[rows, column]
            if noise is not None:
                numbers = scale.jitter(numbers, noise[:, column])
            found = scale.format.encode(numbers)
            tokens[:, column, : found.shape[1]] = found
        return tokens

    def grammar(self) -> np.ndarray:
        """What may stand where: bool ``(m, steps, alphabet)``; anything behind the end of a shorter number."""
        masks = [scale.format.grammar for scale in self.scales]
        grammar = np.ones((len(masks), self.steps, masks[0].shape[1]), dtype=bool)
        for column, mask in enumerate(masks):
            grammar[column, : len(mask)] = mask
        return grammar

    def fingerprint(self) -> str:
        """A hash of everything a fit depends on, so that a resumed one finds the data it was begun with."""
        digest = hashlib.sha256(repr((self.metrics, self.weights, self.labels.shape)).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype=np.float64).tobytes())
        for graph in chain(self.graphs, *self.orders):
            for part in graph:
                digest.update(np.ascontiguousarray(part).tobytes() + b"|")
        return digest.hexdigest()[:16]


def texts_in_orders(
    graphs: Graphs, orders: int, reading: ReadingConfig, *, seed: int, by_content: bool = False
) -> list[list[str]]:
    """``orders`` texts of each of ``n`` graphs, as ``orders`` lists of ``n``; the first holds their own texts.

    Args:
        graphs: The graphs.
        orders: How many.
        reading: What of the graphs is written.
        seed: Seed of the random orders.
        by_content: Draw by what a graph is, not by where it stands: equal graphs get equal texts.

    Raises:
        UsageError: Several orders of a graph that is given as text.
    """
    if orders == 1:
        return [[as_text(graph, reading) for graph in graphs]]
    rows = []
    for index, graph in enumerate(graphs):
        if isinstance(graph, str):
            raise UsageError(f"a text has one order, asked for {orders} (orders, readings); give ONNX models instead")
        text = as_text(graph, reading)
        rng = np.random.default_rng([seed, 3, zlib.crc32(text.encode()) if by_content else index])
        rows.append([text, *in_orders(graph, orders - 1, reading, rng)])
    return [list(column) for column in zip(*rows, strict=True)]


def functions_of(graphs: Graphs, reading: ReadingConfig) -> np.ndarray:
    """A key a graph, ``(n,)``, equal for functionally identical ones: by their space, else by what is read of them."""
    if isinstance(graphs, Networks):
        return np.array([graphs.space.canonical(architecture) for architecture in graphs.architectures])
    return np.array([as_text(graph, reading) for graph in graphs])


def grouped_folds(groups: np.ndarray, folds: int, *, seed: int) -> np.ndarray:
    """A part, 0 to ``folds`` - 1, for each of ``groups`` ``(n,)``, at random; equal ones share a part.

    Parts are as large as each other, but for what sharing takes; where groups are large, some may be empty.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 8]).permutation(len(sizes))
    part = np.empty(len(sizes), dtype=int)
    part[order] = (sizes[order].cumsum() - sizes[order]) * folds // len(groups)
    return part[group]


def rows_of(graphs: Graphs, rows: np.ndarray) -> Graphs:
    """The graphs at ``rows``; ``Networks`` stay what they are."""
    if isinstance(graphs, Networks):
        return Networks(graphs.space, [graphs.architectures[int(row)] for row in rows])
    return [graphs[int(row)] for row in rows]


def batches(graphs: Sequence[EncodedText], size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each step of an epoch: random, but graphs of similar length together so that little is padded."""
    order = rng.permutation(len(graphs))
    lengths = np.array([len(graphs[row].ids) for row in order])
    window = size * 16
    for start in range(0, len(order), window):
        part = slice(start, start + window)
        order[part] = order[part][np.argsort(lengths[part], kind="stable")]
    steps = [order[start : start + size] for start in range(0, len(order), size)]
    return [steps[i] for i in rng.permutation(len(steps))]


def visibility(measured: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which metric sees which: none in most examples, those before it in a random order in a share of them.

    Args:
        measured: Bool ``(b, m)``.
        share: Probability that an example's metrics see each other.
        rng: Draws both.
    """
    rows, metrics = measured.shape
    rank: np.ndarray = rng.permuted(np.tile(np.arange(metrics), (rows, 1)), axis=1)
    joint = np.less(rng.random(rows), share)
    later = np.greater(rank[:, :, None], rank[:, None, :])
    return np.asarray(later & joint[:, None, None] & measured[:, None, :])


@dataclass(frozen=True)
class FitRequest:
    """What a model is asked to learn, once its parts are seen to fit together; see ``RLM.fit``.

    Attributes:
        graphs: ``n`` models or texts.
        labels: ``n`` rows; columns are named by strings.
        validation: Graphs and labels that are not trained on; columns as those of ``labels``.
        weights: Weight of a metric's loss; 1 where not named.
        checkpoint: Folder that keeps the state of an unfinished fit.
        progress: Show a progress bar.

    Raises:
        UsageError: Numbers of graphs and rows differ, or a weight is no weight.
        UnknownNameError: A weight or a validation label of a metric that has no column in ``labels``.
    """

    graphs: Graphs
    labels: pd.DataFrame
    validation: tuple[Graphs, pd.DataFrame] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | Path | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.labels.rename(columns=str))
        named = [*self.weights]
        pairs = [(self.graphs, self.labels)]
        if self.validation is not None:
            held, unseen = self.validation[0], self.validation[1].rename(columns=str)
            object.__setattr__(self, "validation", (held, unseen))
            named += [*unseen.columns]
            pairs.append((held, unseen))
        for graphs, rows in pairs:
            if len(graphs) != len(rows) or not len(graphs):
                raise UsageError(f"got {len(graphs)} graphs and {len(rows)} rows of labels; each graph needs a row")
        for name in named:
            if name not in self.metrics:
                raise UnknownNameError("metric among the labels", name, self.metrics)
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise UsageError(f"the weight of {name!r} is {weight}; it must be a number of at least 0")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The ``m`` metrics to learn."""
        return tuple(self.labels.columns)

    def part(self, graphs: Graphs, labels: pd.DataFrame) -> FitRequest:
        """The same asked of a part of the labels, with nothing held out or kept."""
        weights = {name: weight for name, weight in self.weights.items() if name in labels}
        return FitRequest(graphs, labels, weights=weights)
