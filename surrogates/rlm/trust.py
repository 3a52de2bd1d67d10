"""Whom to follow, and how sure to be: what teachers predict of labels that were kept from them.

Every teacher of a model (``surrogates/rlm/distillation.py``) is fitted without a part of the labels and asked for that
part; processes may be asked for each label from all others (``TeachingConfig.leave_one_out``). How well it orders them,
or they together do, says how far it is followed; how well all of them together agree with the labels says how far apart
the numbers of the model must lie that learns from all labels, and how far off they are how wide its intervals must be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from surrogates.rlm.calibration import LEAST_LABELS, LEAST_TOGETHER, correlation, out_of_fold_spread
from surrogates.rlm.distillation import pseudo_labels, shares, tau, tau_by_lot
from surrogates.rlm.scales import Scale

#: Shares that are tried where teachers are stacked are multiples of one in so many.
STEPS = 10


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of ``n`` labels by teachers that did not learn them.

    Attributes:
        labels: The labels, ``n`` rows, a column each of the ``m`` metrics.
        part: Which of them were set aside together, ``(n,)``.
        predicted: What each teacher predicts, ``(t, n, m)``: models in the metric's unit, the last one, the processes,
            normal scores. NaN where a teacher had no label to learn from.
        alike: Which of them are of networks that read alike, ``(n,)``: equal numbers.
        alone: Whether no other label is of a functionally identical network, ``(n,)``. Networks that are identical to
            several labelled ones are of common functions; networks that are identical to none hardly ever are.
        stacked: ``TeachingConfig.stacked``.
    """

    labels: pd.DataFrame
    part: np.ndarray
    predicted: np.ndarray
    alike: np.ndarray
    alone: np.ndarray
    stacked: bool = False

    @cached_property
    def taus(self) -> np.ndarray:
        """Kendall tau of labels and what each teacher says of them, ``(t, m)``, the mean over what was set aside."""
        values, found = self.labels.to_numpy(dtype=float), []
        for part in np.unique(self.part):
            held = self.part == part
            pairs = [zip(values[held].T, view[held].T, strict=True) for view in self.predicted]
            found.append([[tau(*pair) for pair in metrics] for metrics in pairs])
        return np.asarray(np.mean(found, axis=0))

    @cached_property
    def shares(self) -> pd.DataFrame:
        """How far each teacher is followed, by metric: a row a model, then the processes.

        Where the labels of a metric cannot tell, or are fewer than ``LEAST_LABELS``, all are followed alike.
        """
        names, evenly = self.labels.columns, np.full(len(self.predicted), 1 / len(self.predicted))
        if self.stacked:
            found = {name: self._best_shares(column) for column, name in enumerate(names)}
        else:
            found = dict(zip(names, shares(self.taus).T, strict=True))
        enough = self.labels.notna().sum() >= LEAST_LABELS
        return pd.DataFrame({name: found[name] if enough[name] else evenly for name in names})

    def _best_shares(self, column: int) -> np.ndarray:
        """The shares ``(t,)`` whose mean orders best what was set aside of one metric; of several the most even.

        Networks that are alike count once: networks unlike all others, which a model is asked about, would hardly
        count beside many of a kind. What the mean cannot tell apart counts as if told by lot, lest a teacher be
        followed for what it does not see.
        """
        teachers, labels = len(self.predicted), self.labels.iloc[:, [column]]
        grid = map(np.array, product(np.linspace(0, 1, STEPS + 1), repeat=teachers))
        tried = [np.full(teachers, 1 / teachers), *(one for one in grid if np.isclose(one.sum(), 1))]
        tried.sort(key=lambda one: float(np.ptp(one)))
        seen = np.vstack([labels.to_numpy(dtype=float).T, self.predicted[:, :, column]])
        once = pd.DataFrame(seen.T).groupby([self.part, self.alike]).mean().dropna()
        found = np.zeros(len(tried))
        for _, rows in once.groupby(level=0):
            truth, *views, processes = rows.to_numpy().T
            models = [pd.DataFrame({str(labels.columns[0]): view}) for view in views]
            together = (pseudo_labels(models, processes[:, None], one[:, None], labels) for one in tried)
            found += [tau_by_lot(truth, mean.to_numpy()[:, 0]) for mean in together]
        return tried[int(np.argmax(found))]

    def told(self, name: str, scale: Scale) -> float | None:
        """Correlation of the labels of metric ``name`` and what all teachers together say of them, on its ``scale``.

        The mean over what was set aside together; None where fewer than ``LEAST_LABELS`` labels tell.
        """
        rows, together = self._together(name)
        rows, together = rows[self._among_others(rows)], together[self._among_others(rows)]
        if len(rows) < LEAST_LABELS:
            return None
        pairs = scale.forward(np.stack([self.labels[name].iloc[rows], together]))
        parts = (pairs[:, self.part[rows] == part] for part in np.unique(self.part[rows]))
        return float(np.mean([correlation(*pair) for pair in parts]))

    def _among_others(self, rows: np.ndarray) -> np.ndarray:
        """Which of ``rows`` were set aside together with ``LEAST_TOGETHER`` of them, ``(k,)``."""
        part = self.part[rows]
        return np.asarray(np.bincount(part)[part] >= LEAST_TOGETHER) if len(rows) else np.zeros(0, dtype=bool)

    def _together(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Which labels of metric ``name`` all teachers were asked about, ``(k,)``, and what they say, in its unit."""
        column = self.labels.columns.get_loc(name)
        views = self.predicted[:, :, column]
        rows = np.flatnonzero(self.labels[name].notna() & ~np.isnan(views).any(axis=0))
        if not len(rows):
            return rows, np.empty(0)
        models = [pd.DataFrame({name: view}) for view in views[:-1, rows]]
        said = pseudo_labels(models, views[-1, rows, None], self.shares[[name]].to_numpy(), self.labels[[name]])
        return rows, said[name].to_numpy()

    def spread(
        self,
        name: str,
        scale: Scale,
        own: np.ndarray,
        fresh: np.ndarray,
        echo: np.ndarray,
        *,
        unlearned: float,
        level: float,
    ) -> float:
        """The spread of metric ``name``; 1 where fewer than ``LEAST_LABELS`` labels tell.

        Args:
            name: The metric.
            scale: Its scale.
            own: What the model says of the ``n`` networks, whose labels it knows: median, lower and upper end of its
                intervals, ``(n, 3)``, numbers on the scale.
            fresh: What it says of networks without labels, ``(k, 3)``.
            echo: By how much its teachers say more of these, ``(k,)``.
            unlearned: As for ``out_of_fold_spread``.
            level: Level of the intervals.
        """
        rows, together = self._together(name)
        alone = self.alone[rows]
        if self._among_others(rows[alone]).sum() >= LEAST_LABELS:
            rows, together = rows[alone], together[alone]
        if len(rows) < LEAST_LABELS:
            return 1.0
        unit = scale.spread or 1.0
        truth, predicted = scale.place(np.stack([self.labels[name].iloc[rows], together])) / unit
        own, fresh, echo = own[rows] / unit, fresh / unit, echo / unit
        return out_of_fold_spread(
            truth, predicted, own, self.part[rows], fresh=fresh, echo=echo, unlearned=unlearned, level=level
        )
