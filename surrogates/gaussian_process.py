"""Gaussian process regression on few points: exact, averaged over its few settings and over what it may read.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. The kernel is a mixture of a
linear one and a squared exponential one over features divided by the root of their number; the labels' variance is
integrated out in closed form. A handful of labels does not say which settings, or which of several sets of features,
they follow; every choice predicts, with the weight that the marginal likelihood gives it (Bayesian model averaging,
Hoeting et al., Statistical Science 1999). Labels enter as normal scores of their ranks: outliers do not matter, order
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.special import softmax
from scipy.stats import norm, rankdata

from search_spaces.errors import UsageError

#: Grid of settings: length scale, share of the linear kernel, noise variance (of labels of variance 1).
LENGTHS = (0.5, 1.0, 2.0)
LINEAR = (0.0, 0.5, 1.0)
NOISE = (0.05, 0.1, 0.2, 0.4)
#: Choices that are less probable than this are left out.
PROBABLE = 1e-3


class Term(NamedTuple):
    """What one kernel adds to a prediction.

    Attributes:
        number: The set of features that it reads.
        length: Length scale.
        linear: Share of the linear kernel.
        weights: ``K^-1 y`` times its probability, ``(n,)``.
    """

    number: int
    length: float
    linear: float
    weights: np.ndarray


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    Attributes:
        features: Of the training points, ``(n, d)`` by set; None of a set that is not read.
        terms: What adds up to a prediction.
        shares: Probability of each set of features.
        noise: Expected noise variance.
    """

    features: tuple[np.ndarray | None, ...]
    terms: tuple[Term, ...]
    shares: tuple[float, ...]
    noise: float

    @classmethod
    def fit(cls, sets: Sequence[np.ndarray], values: np.ndarray) -> GaussianProcess:
        """The average of all processes on one of ``sets`` each, by how likely they make ``values``.

        Args:
            sets: Features of the same ``n`` points, ``(n, d)`` each, of about zero mean and unit variance; a set
                without features is not read.
            values: ``(n,)``, finite; only their order counts.

        Raises:
            UsageError: No set has a feature, or there is no point.
        """
        read = [number for number, features in enumerate(sets) if features.size]
        if not read:
            shapes = ", ".join(str(features.shape) for features in sets)
            raise UsageError(f"a Gaussian process needs points with features, got arrays of shape {shapes or 'none'}")
        scores = normal_scores(values)
        kernels = list(product(read, LENGTHS, LINEAR))
        fitted = [one for number, *kernel in kernels for one in _fitted(sets[number], scores, *kernel)]
        probabilities = softmax([likelihood for likelihood, _ in fitted])
        probabilities[probabilities < PROBABLE] = 0
        probabilities = (probabilities / probabilities.sum()).reshape(len(kernels), len(NOISE))
        solved = np.reshape([weights for _, weights in fitted], (*probabilities.shape, len(scores)))
        terms = tuple(
            Term(*kernel, chosen @ weights)
            for kernel, chosen, weights in zip(kernels, probabilities, solved, strict=True)
            if chosen.any()
        )
        shares = np.zeros(len(sets))
        np.add.at(shares, [number for number, *_ in kernels], probabilities.sum(axis=1))
        features = tuple(features if share else None for features, share in zip(sets, shares, strict=True))
        return cls(features, terms, tuple(shares.tolist()), float(probabilities.sum(axis=0) @ NOISE))

    def predict(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Expected normal scores, ``(k,)``, of points by their features, ``(k, d)`` by set as in ``fit``."""
        found = 0.0
        for term in self.terms:
            known = self.features[term.number]
            assert known is not None
            found = found + _kernel(sets[term.number], known, term.length, term.linear) @ term.weights
        return np.asarray(found)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution at the ranks of ``values``, along the first axis."""
    return np.asarray(norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)))


def _fitted(features: np.ndarray, scores: np.ndarray, length: float, linear: float) -> list[tuple[float, np.ndarray]]:
    """By ``NOISE``: log marginal likelihood of ``scores``, up to a constant, and ``K^-1 y``."""
    kernel, found = _kernel(features, features, length, linear), []
    for noise in NOISE:
        factor = cholesky(kernel + noise * np.eye(len(scores)), lower=True)
        weights = cho_solve((factor, True), scores)
        fit = float(scores @ weights) / len(scores)
        likelihood = -0.5 * len(scores) * np.log(max(fit, 1e-12)) - float(np.log(np.diag(factor)).sum())
        found.append((likelihood, weights))
    return found


def _kernel(one: np.ndarray, other: np.ndarray, length: float, linear: float) -> np.ndarray:
    products = one @ other.T / one.shape[1]
    squares = [(part**2).sum(axis=1) / part.shape[1] for part in (one, other)]
    distances = np.maximum(squares[0][:, None] + squares[1][None] - 2 * products, 0.0)
    return np.asarray(linear * products + (1 - linear) * np.exp(-0.5 * distances / length**2))
