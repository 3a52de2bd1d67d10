"""A metric that nobody taught a model, read off from those it knows: which networks to measure, and what they say.

A model that knows the latencies of many devices knows in which ways networks differ there; a device that it does not
know differs in some mixture of these ways. Ten networks far apart, measured once, say in which. Nothing is trained::

    read = model.predict(candidates).mean
    ten = far_apart(read, 10, seed=0)
    order = read_off(read[ten], measure(candidates[ten]), read)
"""

from __future__ import annotations

import numpy as np

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

    A ridge regression (Hoerl & Kennard, 1970) of the labels on all readings, everything as normal scores of ranks.

    Args:
        read: What the model reads of ``n`` labelled networks, ``(n, m)``.
        values: Their labels, ``(n,)``; NaN where not measured.
        fresh: What it reads of ``k`` networks without labels, ``(k, m)``.

    Raises:
        UsageError: Fewer than two labels.
    """
    known = np.isfinite(values)
    count = int(known.sum())
    if count < 2:
        raise UsageError(f"got {count} labels; reading a metric off takes two at least")
    scores = normal_scores(np.concatenate([read[known], fresh]))
    centred = scores[:count] - scores[:count].mean(axis=0)
    dual = np.linalg.solve(centred @ centred.T + RIDGE * np.eye(count), normal_scores(values[known]))
    return np.asarray(scores[count:] @ (centred.T @ dual))
