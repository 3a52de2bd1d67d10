"""Gaussian process regression on few points: exact, averaged over its few settings and over what it may read.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. The kernel is a mixture of a
linear one and a squared exponential one over features divided by the root of their number; the labels' variance is
integrated out in closed form. A handful of labels does not say which settings, or which of several sets of features,
they follow, alone or added to what one more set says; every choice predicts, with the weight that the marginal
likelihood gives it (Bayesian model averaging, Hoeting et al., Statistical Science 1999). Labels enter as normal scores
of their ranks: outliers do not matter, order does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.special import softmax
from scipy.stats import norm, rankdata

from search_spaces.errors import UsageError

#: What is known of points by set, ``(n, d)`` each; None of a set that is not read.
Features: TypeAlias = Sequence[np.ndarray | None]
#: Grid of settings: length scale, share of the linear kernel, noise variance (of labels of variance 1).
LENGTHS = (0.5, 1.0, 2.0)
LINEAR = (0.0, 0.5, 1.0)
NOISE = (0.05, 0.1, 0.2, 0.4)
#: Shares of the kernel on the common set beside that on another.
BESIDE = (0.0, 1 / 3, 2 / 3)
#: Choices that are less probable than this are left out.
PROBABLE = 1e-3


class Kernel(NamedTuple):
    """How alike two points are.

    Attributes:
        number: The set of features that it reads.
        length: Length scale.
        linear: Share of the linear kernel.
        beside: Share of the same kernel on the common set.
    """

    number: int
    length: float
    linear: float
    beside: float

    def between(self, points: Features, known: Features, common: int | None) -> np.ndarray:
        """``(k, n)``, of ``k`` points and ``n`` known ones, by their features; ``common``: number of the common set."""
        found = (1 - self.beside) * self._on(points[self.number], known[self.number])
        if common is not None and self.beside:
            found += self.beside * self._on(points[common], known[common])
        return found

    def _on(self, one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
        assert one is not None and other is not None
        products = one @ other.T / one.shape[1]
        squares = [(part**2).sum(axis=1) / part.shape[1] for part in (one, other)]
        distances = np.maximum(squares[0][:, None] + squares[1][None] - 2 * products, 0.0)
        return np.asarray(self.linear * products + (1 - self.linear) * np.exp(-0.5 * distances / self.length**2))


class Term(NamedTuple):
    """What one kernel adds to a prediction: it, and ``K^-1 y`` times its probability, ``(n,)``."""

    kernel: Kernel
    weights: np.ndarray


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    Attributes:
        features: Of the training points, ``(n, d)`` by set; None of a set that is not read.
        terms: What adds up to a prediction.
        shares: Expected share of each set of features in the kernel.
        noise: Expected noise variance.
        common: Number of the set that is added to others; None for none.
    """

    features: tuple[np.ndarray | None, ...]
    terms: tuple[Term, ...]
    shares: tuple[float, ...]
    noise: float
    common: int | None = None

    @classmethod
    def fit(cls, sets: Sequence[np.ndarray], values: np.ndarray, common: int | None = None) -> GaussianProcess:
        """The average of all processes on one of ``sets`` each, by how likely they make ``values``.

        Args:
            sets: Features of the same ``n`` points, ``(n, d)`` each, of about zero mean and unit variance; a set
                without features is not read.
            values: ``(n,)``, finite; only their order counts.
            common: Number of a set that speaks of something else than all others: there are also processes on another
                set and this one, the sum of a function of each (``BESIDE``).

        Raises:
            UsageError: No set has a feature, or there is no point.
        """
        read = [number for number, features in enumerate(sets) if features.size]
        if not read:
            shapes = ", ".join(str(features.shape) for features in sets)
            raise UsageError(f"a Gaussian process needs points with features, got arrays of shape {shapes or 'none'}")
        scores = normal_scores(values)
        common = common if common in read else None
        kernels = [
            Kernel(number, length, linear, beside)
            for number, length, linear in product(read, LENGTHS, LINEAR)
            for beside in ((0.0,) if common in (None, number) else BESIDE)
        ]
        fitted = [one for kernel in kernels for one in _fitted(kernel.between(sets, sets, common), scores)]
        probabilities = softmax([likelihood for likelihood, _ in fitted])
        probabilities[probabilities < PROBABLE] = 0
        probabilities = (probabilities / probabilities.sum()).reshape(len(kernels), len(NOISE))
        solved = np.reshape([weights for _, weights in fitted], (*probabilities.shape, len(scores)))
        terms = tuple(
            Term(kernel, chosen @ weights)
            for kernel, chosen, weights in zip(kernels, probabilities, solved, strict=True)
            if chosen.any()
        )
        shares = np.zeros(len(sets))
        for kernel, chosen in zip(kernels, probabilities.sum(axis=1), strict=True):
            shares[kernel.number] += (1 - kernel.beside) * chosen
            if common is not None:
                shares[common] += kernel.beside * chosen
        features = tuple(features if share else None for features, share in zip(sets, shares, strict=True))
        return cls(features, terms, tuple(shares.tolist()), float(probabilities.sum(axis=0) @ NOISE), common)

    def predict(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Expected normal scores, ``(k,)``, of points by their features, ``(k, d)`` by set as in ``fit``."""
        return np.asarray(sum(kernel.between(sets, self.features, self.common) @ w for kernel, w in self.terms))


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution at the ranks of ``values``, along the first axis."""
    return np.asarray(norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)))


def _fitted(kernel: np.ndarray, scores: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """By ``NOISE``: log marginal likelihood of ``scores``, up to a constant, and ``K^-1 y``."""
    found = []
    for noise in NOISE:
        factor = cholesky(kernel + noise * np.eye(len(scores)), lower=True)
        weights = cho_solve((factor, True), scores)
        fit = float(scores @ weights) / len(scores)
        likelihood = -0.5 * len(scores) * np.log(max(fit, 1e-12)) - float(np.log(np.diag(factor)).sum())
        found.append((likelihood, weights))
    return found
