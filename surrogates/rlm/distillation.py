"""Pseudo-labels for networks nobody measured: few labels, carried further by what a pretrained model knows for free.

Of any network it can be counted how deep and how large it is, and a model pretrained on such targets reads off how
trainable. A Gaussian process on these numbers learns from sixteen labels what a network of half a million weights
cannot. It names the labels of fresh networks of the same space, thousands of them; the language model learns those
first, and then the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from surrogates.gaussian_process import GaussianProcess, normal_scores

#: Labels that a process takes; its cost grows with the cube of their number.
MOST = 2048


def pseudo_labels(sets: Sequence[np.ndarray], labels: pd.DataFrame) -> pd.DataFrame:
    """What the labels of fresh networks may be: one row each, the columns of ``labels``; their order counts, not unit.

    Args:
        sets: Sets of numbers that are known of ``n`` labelled networks and then ``k`` others, ``(n + k, m)`` each; a
            process on each of them guesses, and counts by how likely it makes the labels. Numbers that are equal for
            all networks are left out; the most recent ``MOST`` labels of a column are used.
        labels: ``n`` rows; NaN where not measured. A column with fewer than two labels gets NaN.

    Raises:
        UsageError: No set, or nothing in any that differs.
    """
    features = [normal_scores(numbers[:, np.ptp(numbers, axis=0) > 0]) for numbers in sets]
    count, guessed = len(labels), {}
    for column in labels:
        values = labels[column].to_numpy(dtype=float)
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        if len(known) < 2:
            guessed[str(column)] = np.full(len(sets[0]) - count, np.nan)
            continue
        process = GaussianProcess.fit([numbers[known] for numbers in features], values[known])
        guessed[str(column)] = process.predict([numbers[count:] for numbers in features])
    return pd.DataFrame(guessed)
