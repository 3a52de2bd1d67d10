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

from search_spaces.errors import UsageError
from surrogates.gaussian_process import GaussianProcess, normal_scores

#: Labels that a process takes; its cost grows with the cube of their number.
MOST = 2048


def pseudo_labels(sets: Sequence[np.ndarray], labels: pd.DataFrame) -> pd.DataFrame:
    """What the labels of fresh networks may be: one row each, the columns of ``labels``; their order counts, not unit.

    Args:
        sets: Sets of numbers that are known of ``n`` labelled networks and then ``k`` others, ``(n + k, m)`` each: for
            every column the one is taken that makes its labels likeliest. Numbers that are equal for all networks are
            left out; the most recent ``MOST`` labels of a column are used.
        labels: ``n`` rows; NaN where not measured. A column with fewer than two labels gets NaN.

    Raises:
        UsageError: No set, or nothing in any that differs.
    """
    varied = [numbers[:, np.ptp(numbers, axis=0) > 0] for numbers in sets]
    features = [normal_scores(numbers) for numbers in varied if numbers.size]
    if not features:
        raise UsageError("nothing that is known of these networks differs from one to another")
    count = len(labels)
    guessed = {}
    for column in labels:
        values = labels[column].to_numpy(dtype=float)
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        if len(known) < 2:
            guessed[str(column)] = np.full(len(features[0]) - count, np.nan)
            continue
        number, process = GaussianProcess.likeliest([numbers[known] for numbers in features], values[known])
        guessed[str(column)] = process.predict(features[number][count:])
    return pd.DataFrame(guessed)
