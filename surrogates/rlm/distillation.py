"""Pseudo-labels for networks nobody measured: few labels, carried further by what a pretrained model knows for free.

A model pretrained on free targets tells of any network how deep, how large, how trainable it is. A Gaussian process on
these numbers learns from sixteen labels what a network of half a million weights cannot. It names the labels of fresh
networks of the same space, thousands of them; the language model learns those first, and then the true ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from search_spaces.base import Architecture
from search_spaces.networks import Networks
from surrogates.gaussian_process import GaussianProcess, normal_scores

#: Labels that a process takes; its cost grows with the cube of their number.
MOST = 2048
#: Labels that what a checkpoint expects of a new metric is worth.
PRIOR = 16
#: Draws after which a space is taken to be used up, for each network asked for.
_DRAWS = 8


def fresh_networks(networks: Networks, count: int, *, seed: int) -> Networks:
    """Up to ``count`` different networks of the same space, none of ``networks`` itself.

    Args:
        networks: What is there already.
        count: How many are wanted; a small space may have fewer.
        seed: Seed of the draws.
    """
    rng, known = np.random.default_rng([seed, 4]), set(networks.architectures)
    found: dict[Architecture, None] = {}
    for _ in range(_DRAWS * count):
        if len(found) == count:
            break
        arch = networks.space.sample(rng)
        if arch not in known:
            found[arch] = None
    return Networks(networks.space, list(found))


def pseudo_labels(
    read: np.ndarray, labels: pd.DataFrame, fresh: np.ndarray, prior: np.ndarray | None = None
) -> pd.DataFrame:
    """What the labels of fresh networks may be: one row each, the columns of ``labels``; their order counts, not unit.

    A Gaussian process, and where there is a ``prior`` the mean of both: it counts as much as ``PRIOR`` labels.

    Args:
        read: What a pretrained model reads of ``n`` labelled networks, ``(n, m)``.
        labels: ``n`` rows; NaN where not measured. A column with fewer than two labels gets NaN.
        fresh: What it reads of ``k`` networks without labels, ``(k, m)``. Numbers that are equal for all networks are
            left out; the most recent ``MOST`` labels of a column are used.
        prior: What the fresh networks were expected to be before the labels, ``(k, columns)``.

    Raises:
        UsageError: It reads the same of all networks.
    """
    both = np.concatenate([read, fresh])
    features = normal_scores(both[:, both.std(axis=0) > 0])
    guessed = {}
    for column, name in enumerate(labels):
        values = labels[name].to_numpy(dtype=float)
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        if len(known) < 2:
            guessed[str(name)] = np.full(len(fresh), np.nan)
            continue
        process = GaussianProcess.fit(features[known], values[known])
        guess = process.predict(features[len(read) :])
        if prior is not None:
            share = PRIOR / (PRIOR + len(known))
            guess = (1 - share) * normal_scores(guess) + share * normal_scores(prior[:, column])
        guessed[str(name)] = guess
    return pd.DataFrame(guessed)
