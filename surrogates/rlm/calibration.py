"""How wide intervals must be: learned from labels that were set aside in turn, when there are none to spare.

A model knows the networks it was fitted to better than any other, so its own labels say little of how sure it may be.
Each part of the labels is therefore predicted by a fit on the others. For every label the distance to the predicted
median, as a multiple of the predicted interval on that side, is how much wider the interval had to be to hold it. The
quantile of these multiples at the interval's level (a split conformal quantile, Lei et al., JASA 2018, over
cross-validation folds) is the metric's *spread*: what the distribution is stretched by about its median, on the
metric's scale. ``Prediction.mean`` stays, and so does the order of networks.

Where labels are set aside already, to say which teacher to trust (``surrogates/rlm/trust.py``), no further fit is
needed: the errors of the teachers, of labels that they did not learn, and what the model makes of its teachers stand
for its own errors. There, too, labels say how far apart values lie.

Intervals are for networks that the model does not know. In a small space many labels are of functionally identical
networks; one whose twin is among the others is known, is predicted the better for it, and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from search_spaces.errors import UsageError
from surrogates.progress import Progress
from surrogates.rlm.config import ReadingConfig
from surrogates.rlm.labelled import Graphs, functions_of, rows_of

if TYPE_CHECKING:
    from surrogates.rlm.rlm import RLM

#: Labels that a metric needs before its spread is learned.
LEAST_LABELS = 16
#: Labels that were set aside together need to be so many for their level and deviation to say anything.
LEAST_TOGETHER = 8
#: Labels tell at least so much, or numbers would all become one.
_LEAST_TOLD = 0.1
#: An interval counts as at most so many times as wide as others.
_FAR_WIDER = 10.0
#: A predicted interval narrower than this, in spreads of the labels, counts as so wide.
_NARROW = 1e-6


@dataclass(frozen=True)
class CalibrationConfig:
    """How spreads are learned.

    Attributes:
        folds: Parts that are set aside in turn; every one costs a further fit. With 0 there is none: spreads come from
            labels set aside by ``TeachingConfig.trust_folds``, if any (from validation labels where there are enough
            beside these), and else stay 1. A metric with fewer than ``LEAST_LABELS`` labels keeps 1 in any case.
        level: Share of new labels that the central interval of this level is to hold.
    """

    folds: int = 0
    level: float = 0.8

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise UsageError(f"folds is {self.folds}; it must be 0 for none, or 2 and more")
        if not 0 < self.level < 1:
            raise UsageError(f"level is {self.level}; it must lie in (0, 1)")

    @property
    def ends(self) -> tuple[float, float]:
        """Probabilities of the interval's lower and upper end."""
        return (1 - self.level) / 2, (1 + self.level) / 2


def learn_spreads(
    refit: Callable[[Graphs, pd.DataFrame], RLM],
    graphs: Graphs,
    labels: pd.DataFrame,
    config: CalibrationConfig,
    *,
    seed: int,
    reading: ReadingConfig,
) -> dict[str, float]:
    """The spread of every metric of ``labels`` that has ``LEAST_LABELS``.

    Args:
        refit: A model fitted to graphs and labels from the beginning.
        graphs: ``n`` graphs.
        labels: ``n`` rows, columns named by strings; NaN where not measured.
        config: How many parts.
        seed: Seed of the parts.
        reading: What of the graphs the model reads.

    Raises:
        UsageError: There are fewer graphs than parts.
    """
    enough = labels.columns[labels.notna().sum() >= LEAST_LABELS]
    if not config.folds or not len(enough):
        return {}
    if len(graphs) < config.folds:
        raise UsageError(f"{len(graphs)} graphs cannot be set aside in {config.folds} parts; lower folds")
    order = np.random.default_rng([seed, 7]).permutation(len(graphs))
    functions = functions_of(graphs, reading)
    needed: dict[str, list[np.ndarray]] = {name: [] for name in enough}
    for part in np.array_split(order, config.folds):
        rest = np.setdiff1d(order, part)
        held = part[~np.isin(functions[part], functions[rest])]
        if not len(held):
            continue
        known, unseen = (labels[enough].iloc[rows].reset_index(drop=True) for rows in (rest, held))
        found = multiples(refit(rows_of(graphs, rest), known), rows_of(graphs, held), unseen, config)
        for name, parts in needed.items():
            parts.append(found[name])
    return {name: conformal(np.concatenate(parts), config.level) for name, parts in needed.items() if parts}


def multiples(fitted: RLM, graphs: Graphs, labels: pd.DataFrame, config: CalibrationConfig) -> dict[str, np.ndarray]:
    """``stretch`` of the known labels of every metric; infinite where the scale of ``fitted`` ends before."""
    readout = fitted.readout()
    with Progress("calibrating", len(graphs), show=False) as bar:
        outcomes = readout.read(graphs, fitted.encode, fitted.metrics, None, readout.generator(), bar)
    found = {}
    for name, scale in zip(fitted.metrics, fitted.scales, strict=True):
        truth = labels[name].to_numpy(dtype=float)
        known, unit = np.isfinite(truth), scale.spread or 1.0
        interval = outcomes[name].quantiles((0.5, *config.ends))[known, 0]
        needed = stretch(scale.place(truth[known]) / unit, interval / unit)
        found[name] = np.where(scale.covers(truth[known]), needed, np.inf)
    return found


def stretch(truth: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """By how much each interval had to be wider to hold the truth.

    Args:
        truth: Labels, ``(k,)``, in spreads of the metric's labels.
        interval: Median, lower and upper end in the same unit, ``(k, 3)``.
    """
    median, lower, upper = interval.T
    width = np.where(truth > median, upper - median, median - lower)
    return np.asarray(np.abs(truth - median) / np.maximum(width, _NARROW))


def out_of_fold_spread(
    truth: np.ndarray,
    predicted: np.ndarray,
    own: np.ndarray,
    part: np.ndarray,
    *,
    fresh: np.ndarray,
    echo: np.ndarray,
    unlearned: float,
    level: float,
) -> float:
    """The spread of a metric by predictions of teachers that did not learn the labels.

    Their errors, and how far the model is from what they taught it, together stand for those of the model on new
    networks. Short fits to fewer labels differ from it in level and in deviation, which are taken from the model; that
    they err a little more, and that it knows the level of these very labels, about make up for each other.

    Args:
        truth: Labels ``(k,)``, in spreads of the metric's labels.
        predicted: What the teachers say of them, in the same unit.
        own: What the model says of them, which learned them: median, lower and upper end of the interval, ``(k, 3)``.
        part: Which labels were set aside together; of parts with fewer than ``LEAST_TOGETHER`` nothing is learned.
        fresh: What the model says of other networks, ``(j, 3)``.
        echo: Differences of what it was taught of networks and what it says of them, ``(i,)``.
        unlearned: Share of the deviation of ``own`` that it has where labels are not known.
        level: Level of the intervals.

    Returns:
        1 where fewer than ``LEAST_LABELS`` labels are in parts that are large enough.
    """
    needed, labels = [np.empty(0)], 0
    below, above = (_mean(side) for side in _sides(fresh).T)
    width = _sides(own).sum(axis=1)
    for fold in np.unique(part):
        rows = part == fold
        if rows.sum() < LEAST_TOGETHER:
            continue
        view, like = predicted[rows], own[rows, 0]
        median = (view - view.mean()) / (view.std() or 1.0) * unlearned * like.std() + like.mean()
        shape = np.maximum(width[rows], _NARROW)
        shape = np.minimum(shape / _mean(shape), _FAR_WIDER)
        intervals = np.stack([median, median - shape * below, median + shape * above], axis=1)
        off = (truth[rows, None] + echo).ravel()
        needed.append(stretch(off, np.repeat(intervals, len(echo), axis=0)))
        labels += int(rows.sum())
    if labels < LEAST_LABELS:
        return 1.0
    return conformal(np.concatenate(needed), min(1.0, math.ceil((labels + 1) * level) / labels))


def _sides(intervals: np.ndarray) -> np.ndarray:
    """Distances of lower and upper end from the median, ``(k, 2)``, of ``(k, 3)``."""
    median, lower, upper = intervals.T
    return np.stack([median - lower, upper - median], axis=1)


def level_and_slope(truth: np.ndarray, own: np.ndarray, told: float) -> tuple[float, float]:
    """Where numbers of a model lie as its expectations of networks that it does not know: ``shift + slope * number``.

    A model that learned to rank says who is ahead, but by how much is drawn together or apart. Expectations that
    correlate with the labels by ``told`` deviate by so many times what the labels do (regression to the mean).

    Args:
        truth: Labels ``(k,)`` on the metric's scale.
        own: What the model says of them, which learned them.
        told: Correlation of labels and what is said of them by who did not learn them.

    Returns:
        Shift and slope; 0 and 1 where labels or predictions do not vary.
    """
    if _constant(truth) or _constant(own):
        return 0.0, 1.0
    slope = float(max(_LEAST_TOLD, told) * truth.std() / (own.std() * unlearned(truth, own, told)))
    return float(truth.mean() - slope * own.mean()), slope


def unlearned(truth: np.ndarray, own: np.ndarray, told: float) -> float:
    """How much less a model deviates from one network to the next where it does not know the labels.

    Of a network that it learned it knows a part of the noise by heart. What it says lies between the expectation and
    the label, so the angles, whose cosines are correlations, tell how far it is from what it would say else.

    Args:
        truth: As for ``level_and_slope``.
        own: Likewise.
        told: Likewise.

    Returns:
        Share of the deviation of ``own``, in (0, 1].
    """
    told = max(_LEAST_TOLD, told)
    return float(np.cos(np.arccos(told) - np.arccos(max(told, correlation(truth, own)))))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two series ``(k,)``, at most 1; 0 where one of them does not vary."""
    if _constant(one) or _constant(other):
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))


def beside_line(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how much ``other`` is off the straight line through its points over ``one``, ``(k,)``, least squares."""
    slope = correlation(one, other) * other.std() / (one.std() or 1.0)
    return np.asarray(other - other.mean() - slope * (one - one.mean()))


def _constant(values: np.ndarray) -> bool:
    """Whether ``values`` are the same, but for rounding."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _mean(widths: np.ndarray) -> float:
    """The mean, to which none adds more than ``_FAR_WIDER`` medians: raw numbers have no last digit."""
    return float(np.minimum(widths, _FAR_WIDER * np.median(widths)).mean())


def conformal(needed: np.ndarray, level: float) -> float:
    """What a share ``level`` of ``needed``, and of one more to come, does not exceed.

    At most the largest finite number: labels that no interval can hold need infinitely much, and few labels may not
    tell of a high level.
    """
    rank = min(len(needed), math.ceil((len(needed) + 1) * level))
    finite = needed[np.isfinite(needed)]
    return float(min(np.sort(needed)[rank - 1], finite.max())) if len(finite) else 1.0
