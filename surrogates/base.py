"""The contract of a surrogate: ONNX graphs in, several metrics with uncertainty out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import pandas as pd

from search_spaces.errors import UnknownNameError

#: Distance from which a graph is far: some way past 1, as a new graph of the same kind may be the farthest so far.
FAR = 1.25


@dataclass(frozen=True)
class Prediction:
    """Predicted metrics of ``n`` graphs.

    Attributes:
        metrics: The ``m`` metric names, one per column.
        mean: Expected values, shape ``(n, m)``, in the metric's unit.
        std: Standard deviations, shape ``(n, m)``; NaN where the surrogate gives none.
        quantiles: Shape ``(n, m, q)`` for the ``q`` probabilities ``levels``; NaN where the surrogate gives none.
        levels: Probabilities of the quantiles, ascending.
    """

    metrics: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray
    levels: tuple[float, ...]

    def frame(self) -> pd.DataFrame:
        """One row a graph: ``<metric>`` and ``<metric>_std`` columns."""
        columns: dict[str, np.ndarray] = {}
        for index, metric in enumerate(self.metrics):
            columns[metric] = self.mean[:, index]
            columns[f"{metric}_std"] = self.std[:, index]
        return pd.DataFrame(columns)

    @classmethod
    def of_means(cls, metrics: Sequence[str], mean: np.ndarray) -> Self:
        """A prediction without uncertainty."""
        mean = np.asarray(mean, dtype=float).reshape(-1, len(metrics))
        return cls(tuple(metrics), mean, np.full_like(mean, np.nan), np.full((*mean.shape, 0), np.nan), ())


@dataclass(frozen=True)
class Familiarity:
    """How near a graph lies to those a surrogate was trained on.

    Attributes:
        distance: Distance from the training graphs over that of the farthest graph the surrogate knows.
        share: Share of the graphs it knows that lie nearer, 0 to 1.
        unseen: Operators of the graph that no training graph has.
    """

    distance: float
    share: float
    unseen: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``typical`` (among the nearest 95 %), ``unusual``, or ``far``: past ``FAR``, or with operators unseen."""
        if self.distance > FAR or self.unseen:
            return "far"
        return "typical" if self.share <= 0.95 else "unusual"

    def __str__(self) -> str:
        if self.distance > 1:
            return f"{self.verdict}: {self.distance:.3g} x the distance of the farthest training network"
        return f"{self.verdict}: farther out than {self.share:.0%} of the training networks"


class Surrogate(ABC):
    """Predicts metrics of networks from their ONNX graphs.

    Attributes:
        metrics: What it can predict, e.g. ``("cifar10_test", "pixel3_latency_ms")``; empty before ``fit``.
    """

    metrics: tuple[str, ...] = ()

    @abstractmethod
    def fit(self, graphs: Sequence[onnx.ModelProto], labels: pd.DataFrame) -> Self:
        """Learn from labelled graphs.

        Args:
            graphs: ``n`` models.
            labels: ``n`` rows, one column per metric; NaN means not measured.
        """

    @abstractmethod
    def predict(
        self,
        graphs: Sequence[onnx.ModelProto],
        metrics: Sequence[str] | None = None,
        given: pd.DataFrame | None = None,
    ) -> Prediction:
        """Predict ``metrics`` (all by default) of ``graphs``.

        Args:
            graphs: ``n`` models.
            metrics: Names out of ``self.metrics``.
            given: ``n`` rows of values already known, one column per metric; a surrogate that can conditions on them.

        Raises:
            UnknownNameError: A metric the surrogate was not fitted on.
        """

    def familiarity(self, graphs: Sequence[onnx.ModelProto]) -> tuple[Familiarity, ...] | None:
        """How near each of ``graphs`` lies to the training graphs; None where the surrogate cannot tell."""
        return None

    @abstractmethod
    def save_pretrained(self, path: str | Path) -> None:
        """Write everything ``from_pretrained`` needs into the folder ``path``."""

    @classmethod
    @abstractmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        """Read a folder that ``save_pretrained`` wrote, or a shipped checkpoint by name.

        Raises:
            CheckpointError: The folder is incomplete, foreign, or of another format version.
        """

    def select(self, metrics: Sequence[str] | None) -> tuple[str, ...]:
        """``metrics``, or all of this surrogate's; unknown ones raise ``UnknownNameError``."""
        if metrics is None:
            return self.metrics
        for metric in metrics:
            if metric not in self.metrics:
                raise UnknownNameError("metric of this surrogate", metric, self.metrics)
        return tuple(metrics)
