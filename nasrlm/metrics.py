"""How good predictions are: rank correlations and calibration, each with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from search_spaces.errors import UsageError

Statistic = Callable[[np.ndarray, np.ndarray], float]


class Estimate(NamedTuple):
    """A statistic and its 95 % bootstrap percentile interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def kendall_tau(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Kendall's tau-b (ties corrected) of two vectors of shape ``(n,)``; NaN if one is constant."""
    return float(scipy.stats.kendalltau(truth, predicted, variant="b").statistic)


def spearman_rho(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors of shape ``(n,)``; NaN if one is constant."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return float("nan")
    # The definition; scipy's spearmanr also computes a p-value, which costs most of its time in a bootstrap.
    return float(np.corrcoef(scipy.stats.rankdata(truth), scipy.stats.rankdata(predicted))[0, 1])


def bootstrap(
    statistic: Statistic, truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0, resamples: int = 1000
) -> Estimate:
    """``statistic(truth, predicted)`` with a 95 % percentile interval over resampled networks.

    Args:
        statistic: For instance ``kendall_tau``.
        truth: Measured values, shape ``(n,)``; rows where either side is NaN are left out.
        predicted: Predicted values, shape ``(n,)``.
        seed: Seed of the resampling.
        resamples: Number of bootstrap samples.

    Raises:
        UsageError: Shapes differ or fewer than two complete rows.
    """
    truth, predicted = _complete(truth, predicted)
    values = resampled(statistic, truth, predicted, seed=seed, resamples=resamples)
    return _estimate(statistic(truth, predicted), values)


def resampled(
    statistic: Statistic, truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0, resamples: int = 1000
) -> np.ndarray:
    """``statistic`` on each of ``resamples`` bootstrap samples of networks, shape ``(resamples,)``.

    Equal seeds and numbers of networks give equal samples: the values of two predictions can be compared in pairs.
    """
    return np.array([statistic(truth[rows], predicted[rows]) for rows in _draws(len(truth), resamples, seed)])


def paired_difference(
    statistic: Statistic,
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """``statistic(truth, first) - statistic(truth, second)``, both sides on the same resampled networks.

    The difference is significant at 5 % when the interval excludes 0. Arguments and errors are those of ``bootstrap``.
    """
    truth, first, second = _complete(truth, first, second)
    draws = _draws(len(truth), resamples, seed)
    values = np.array([statistic(truth[r], first[r]) - statistic(truth[r], second[r]) for r in draws])
    return _estimate(statistic(truth, first) - statistic(truth, second), values)


def interval_coverage(
    truth: np.ndarray,
    quantiles: np.ndarray,
    levels: Sequence[float],
    *,
    intervals: Sequence[float] = (0.5, 0.8, 0.9),
) -> dict[float, float]:
    """Share of true values inside the central predicted intervals; a calibrated model covers 50 % with its 50 %.

    Args:
        truth: Measured values, shape ``(n,)``; NaN rows are left out.
        quantiles: Predicted quantiles, shape ``(n, q)``, at the probabilities ``levels`` (linear in between).
        levels: The ``q`` probabilities, ascending.
        intervals: Nominal coverages asked for.

    Returns:
        Nominal coverage -> observed coverage.

    Raises:
        UsageError: Shapes differ, or ``levels`` do not reach as far as the widest interval.
    """
    truth, quantiles = np.asarray(truth, float), np.asarray(quantiles, float)
    if quantiles.shape != (len(truth), len(levels)):
        raise UsageError(f"quantiles must have shape {(len(truth), len(levels))}, got {quantiles.shape}")
    rows = ~(np.isnan(truth) | np.isnan(quantiles).any(axis=1))
    if not rows.any():
        raise UsageError("no row has both a true value and all quantiles; nothing to calibrate against")
    coverage = {}
    for nominal in intervals:
        low, high = (1 - nominal) / 2, (1 + nominal) / 2
        if low < levels[0] - 1e-9 or high > levels[-1] + 1e-9:
            raise UsageError(f"a {nominal:.0%} interval needs quantiles {low:.3g} and {high:.3g}, levels are {levels}")
        bounds = np.array([np.interp((low, high), levels, row) for row in quantiles[rows]])
        coverage[nominal] = float(np.mean((bounds[:, 0] <= truth[rows]) & (truth[rows] <= bounds[:, 1])))
    return coverage


def _complete(*columns: np.ndarray) -> list[np.ndarray]:
    arrays = [np.asarray(column, dtype=float) for column in columns]
    if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
        raise UsageError(f"need vectors of one length, got shapes {[array.shape for array in arrays]}")
    rows = ~np.isnan(np.stack(arrays)).any(axis=0)
    if rows.sum() < 2:
        raise UsageError(f"need at least 2 rows without NaN, got {int(rows.sum())}")
    return [array[rows] for array in arrays]


def _draws(n: int, resamples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(n, size=(resamples, n))


def _estimate(value: float, values: np.ndarray) -> Estimate:
    values = values[~np.isnan(values)]
    if not len(values):  # a constant side: the statistic has no value on any resample either
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(float(value), float(low), float(high))
