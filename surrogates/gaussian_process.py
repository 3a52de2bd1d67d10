"""Gaussian process regression on few points: exact, its few settings chosen by the marginal likelihood on a grid.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. The kernel is a mixture of a
linear one and a squared exponential one over features divided by the root of their number; the labels' variance is
integrated out in closed form. Labels enter as normal scores of their ranks: outliers do not matter, order does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.stats import norm, rankdata

from search_spaces.errors import UsageError

#: Grid of settings: length scale, share of the linear kernel, noise variance (of labels of variance 1).
LENGTHS = (0.5, 1.0, 2.0)
LINEAR = (0.0, 0.5, 1.0)
NOISE = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    Attributes:
        features: Of the training points, ``(n, d)``.
        weights: ``K^-1 y``, ``(n,)``.
        length: Length scale.
        linear: Share of the linear kernel.
        noise: Noise variance.
        likelihood: Log marginal likelihood of the labels, up to a constant.
    """

    features: np.ndarray
    weights: np.ndarray
    length: float
    linear: float
    noise: float
    likelihood: float

    @classmethod
    def fit(cls, features: np.ndarray, values: np.ndarray) -> GaussianProcess:
        """The process whose settings make ``values`` likeliest.

        Args:
            features: ``(n, d)``, each of about zero mean and unit variance.
            values: ``(n,)``, finite; only their order counts.

        Raises:
            UsageError: No feature, or no point.
        """
        if not features.size:
            raise UsageError(f"a Gaussian process needs points with features, got an array of shape {features.shape}")
        scores = normal_scores(values)
        best: GaussianProcess | None = None
        for length, linear, noise in product(LENGTHS, LINEAR, NOISE):
            kernel = _kernel(features, features, length, linear) + noise * np.eye(len(scores))
            factor = cholesky(kernel, lower=True)
            weights = cho_solve((factor, True), scores)
            fit = float(scores @ weights) / len(scores)
            likelihood = -0.5 * len(scores) * np.log(max(fit, 1e-12)) - float(np.log(np.diag(factor)).sum())
            if best is None or likelihood > best.likelihood:
                best = cls(features, weights, length, linear, noise, likelihood)
        assert best is not None
        return best

    @classmethod
    def likeliest(cls, sets: Sequence[np.ndarray], values: np.ndarray) -> tuple[int, GaussianProcess]:
        """The number of the set of features of the same points that makes ``values`` likeliest, and its process.

        Raises:
            UsageError: As ``fit``.
        """
        fitted = [cls.fit(features, values) for features in sets]
        best = max(range(len(sets)), key=lambda number: fitted[number].likelihood)
        return best, fitted[best]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Expected normal scores of points ``(k, d)``, ``(k,)``."""
        return np.asarray(_kernel(features, self.features, self.length, self.linear) @ self.weights)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution at the ranks of ``values``, along the first axis."""
    return np.asarray(norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)))


def _kernel(one: np.ndarray, other: np.ndarray, length: float, linear: float) -> np.ndarray:
    products = one @ other.T / one.shape[1]
    squares = [(part**2).sum(axis=1) / part.shape[1] for part in (one, other)]
    distances = np.maximum(squares[0][:, None] + squares[1][None] - 2 * products, 0.0)
    return np.asarray(linear * products + (1 - linear) * np.exp(-0.5 * distances / length**2))
