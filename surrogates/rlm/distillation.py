"""Few labels carried further: what is free to know of a network, and what the model made of the labels, teach it both.

Of any network it can be counted how deep and how large it is, and a model pretrained on such targets reads off how
trainable. A Gaussian process on these numbers learns from sixteen labels what a network of half a million weights
cannot; where a metric follows no count, the network knows more. Both name the labels of fresh networks of the same
space, a thousand of them, each as far as it can be trusted, and the network learns those: knowledge distillation
(Hinton et al., arXiv 1503.02531) from an ensemble that the student is part of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from surrogates.gaussian_process import GaussianProcess, normal_scores
from surrogates.monotone import MonotoneMap

#: Labels that a process takes; its cost grows with the cube of their number.
MOST = 2048
#: Labels that tell how far to trust it, each guessed without itself.
JUDGED = 64


class Guess(NamedTuple):
    """What Gaussian processes say of one metric of fresh networks.

    Attributes:
        scores: Expected normal scores, ``(k,)``.
        trust: Square of Kendall's tau between labels and what the process says without each of them, in place of the
            share of variance that it explains; 0 where tau is negative.
    """

    scores: np.ndarray
    trust: float

    @classmethod
    def of(cls, sets: Sequence[np.ndarray], values: np.ndarray) -> Self:
        """The guess from ``values``, trusted for nothing if fewer than three are known.

        Args:
            sets: Sets of numbers that are known of ``n`` labelled networks and then ``k`` others, ``(n + k, m)`` each;
                a process on each of them guesses, and counts by how likely it makes the labels. Numbers that are equal
                for all networks are left out.
            values: Labels ``(n,)``, NaN where not measured; the most recent ``MOST`` are used.

        Raises:
            UsageError: No set, or nothing in any that differs.
        """
        features = [normal_scores(numbers[:, np.ptp(numbers, axis=0) > 0]) for numbers in sets]
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        if len(known) < 3:
            return cls(np.zeros(len(sets[0]) - len(values)), 0.0)

        def guessed(rows: np.ndarray, wanted: np.ndarray | slice) -> np.ndarray:
            process = GaussianProcess.fit([numbers[rows] for numbers in features], values[rows])
            return process.predict([numbers[wanted] for numbers in features])

        judged = known[-JUDGED:]
        without = [float(guessed(np.setdiff1d(known, row), np.array([row]))[0]) for row in judged]
        tau = float(np.nan_to_num(kendalltau(values[judged], without).statistic))
        return cls(guessed(known, slice(len(values), None)), max(0.0, tau) ** 2)


def pseudo_labels(guesses: Sequence[Guess], own: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """What the labels of fresh networks may be: one row each, the columns of ``labels``, in their units.

    A guess and the prediction of the model are averaged as normal scores, the guess with the weight of its trust, after
    it was brought to their mean and deviation. Beyond the range of the labels it goes on straight.

    Args:
        guesses: One a column of ``labels``.
        own: Predictions of the model that was fitted to ``labels``; ``k`` rows.
        labels: ``n`` rows, NaN where not measured; of every column at least one is.
    """
    named = {}
    for guess, column in zip(guesses, labels.columns, strict=True):
        values = labels[column].dropna().to_numpy(dtype=float)
        unit = MonotoneMap.fit(normal_scores(values), values)
        scores = np.interp(own[str(column)], unit.values, unit.scores)
        other = (guess.scores - guess.scores.mean()) / (guess.scores.std() or 1.0) * scores.std() + scores.mean()
        named[str(column)] = unit((1 - guess.trust) * scores + guess.trust * other)
    return pd.DataFrame(named)
