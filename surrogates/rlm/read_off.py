"""A metric that nobody taught a model, read off from those it knows: which networks to measure, and what they say.

A model that knows the latencies of many devices knows in which ways networks differ there; a device that it does not
know differs in some mixture of these ways. Ten networks far apart, measured once, say in which. Nothing is trained::

    read = model.predict(candidates).mean
    ten = far_apart(read, 10, seed=0)
    order = read_off(read[ten], measure(candidates[ten]), read)
"""

from __future__ import annotations

import numpy as np
import scipy.stats

from search_spaces.errors import UsageError
from surrogates.gaussian_process import normal_scores

#: Weight of the penalty on squared weights, where readings have unit variance.
RIDGE = 1.0


def far_apart(read: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Networks to measure: the first at random, each next one the farthest from those before (Gonzalez, 1985).

    Args:
        read: What the model reads of ``k`` candidates, ``(k, m)``; distances are between normal scores of ranks.
        count: How many are wanted.
        seed: Seed of the first.

    Returns:
        Their indices, ``(count,)``.

    Raises:
        UsageError: There are fewer candidates.
    """
    if not 1 <= count <= len(read):
        raise UsageError(f"count is {count}; choose from 1 to {len(read)}, the number of candidates")
    scores = normal_scores(read)
    chosen, distance = [int(np.random.default_rng([seed, 7]).integers(len(read)))], np.full(len(read), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((scores - scores[chosen[-1]]) ** 2).sum(axis=1))
        distance[chosen] = -1
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def read_off(read: np.ndarray, values: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """What the new metric of fresh networks may be: ``(k,)``, whose order counts, not the unit.

    The mean of three guesses, as few labels favour each in turn: ridge regressions (Hoerl & Kennard, 1970) on all
    readings, one of the labels' ranks, one of their logarithms, and the ``nearest`` reading; all as normal scores.

    Args:
        read: What the model reads of ``n`` labelled networks, ``(n, m)``.
        values: Their labels, ``(n,)``, positive, such as latencies; NaN where not measured.
        fresh: What it reads of ``k`` networks without labels, ``(k, m)``.

    Raises:
        UsageError: Fewer than two labels, or one that is not positive.
    """
    known = np.isfinite(values)
    labels, count = values[known], int(known.sum())
    if count < 2:
        raise UsageError(f"got {count} labels; reading a metric off takes two at least")
    if labels.min() <= 0:
        raise UsageError(f"got a label of {labels.min():g}; only what is positive, such as a latency, is read off")
    scores = normal_scores(np.concatenate([read[known], fresh]))
    centred = scores[:count] - scores[:count].mean(axis=0)
    wanted = np.stack([normal_scores(labels), np.log(labels) - np.log(labels).mean()], axis=1)
    weights = centred.T @ np.linalg.solve(centred @ centred.T + RIDGE * np.eye(count), wanted)
    alike = scores[count:, nearest(read[known], labels)]
    return np.asarray(normal_scores(scores[count:] @ weights).sum(axis=1) + alike) / 3


def agreement(read: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Kendall's tau of ``values`` ``(n,)``, NaN where unknown, each column of ``read`` ``(n, m)``; -1 if constant.

    With fewer than two known values, -1 of every column.
    """
    known = np.isfinite(values)
    if known.sum() < 2:
        return np.full(read.shape[1], -1.0)
    taus = [scipy.stats.kendalltau(column[known], values[known]).statistic for column in read.T]
    return np.nan_to_num(np.array(taus), nan=-1.0)


def nearest(read: np.ndarray, values: np.ndarray) -> int:
    """The column of ``read`` ``(n, m)`` that orders ``values`` ``(n,)`` (NaN where unknown) best."""
    return int(np.argmax(agreement(read, values)))
