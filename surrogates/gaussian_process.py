"""Gaussian process regression on few points: exact, averaged over its few settings and over what it may read.

Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. The kernel is a mixture of a
linear one and a squared exponential one over features divided by the root of their number; the labels' variance is
integrated out in closed form. A handful of labels does not say which settings, or which of several sets of features,
they follow, alone or added to what one more set says; every choice predicts, with the weight that the marginal
likelihood gives it (Bayesian model averaging, Hoeting et al., Statistical Science 1999). Labels enter as normal scores
of their ranks: outliers do not matter, order does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
NOISE = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)
#: Variances of noise below this are considered only where they are asked for.
LEAST_NOISE = 0.05
#: Shares of the kernel on a set that is added to another.
BESIDE = (1 / 3, 2 / 3)
#: Length scale and share of the linear kernel by which sums of sets are tried first. Those whose log likelihood is
#: further below the best than this, and this a label, are tried no further.
MIDDLE = (1.0, 0.5)
HOPELESS, HOPELESS_A_LABEL = 20.0, 0.1
#: Choices that are less probable than this are left out.
PROBABLE = 1e-3


class Kernel(NamedTuple):
    """How alike two points are.

    Attributes:
        number: The set of features that it reads.
        length: Length scale.
        linear: Share of the linear kernel.
        beside: Share of the same kernel on the set that is added.
        added: Number of that set; the same as ``number`` where none is.
    """

    number: int
    length: float
    linear: float
    beside: float
    added: int

    def between(self, points: Features, known: Features) -> np.ndarray:
        """``(k, n)``, of ``k`` points and ``n`` known ones, by their features."""
        found = (1 - self.beside) * _alike(points[self.number], known[self.number], self.length, self.linear)
        if self.beside:
            found += self.beside * _alike(points[self.added], known[self.added], self.length, self.linear)
        return found


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
    """

    features: tuple[np.ndarray | None, ...]
    terms: tuple[Term, ...]
    shares: tuple[float, ...]
    noise: float

    @classmethod
    def fit(
        cls,
        sets: Sequence[np.ndarray],
        values: np.ndarray,
        common: Collection[int] = (),
        least_noise: float = LEAST_NOISE,
    ) -> GaussianProcess:
        """The average of all processes on one of ``sets`` each, by how likely they make ``values``.

        Args:
            sets: Features of the same ``n`` points, ``(n, d)`` each, of about zero mean and unit variance; a set
                without features is not read.
            values: ``(n,)``, finite; only their order counts.
            common: Numbers of sets that speak of something else than the others: there are also processes on one of the
                others and one of these, the sum of a function of each (``BESIDE``).
            least_noise: Variances of noise below this are not considered.

        Raises:
            UsageError: No set has a feature, or there is no point.
        """
        choices = _Choices.of(sets, values, common, least_noise)
        terms = tuple(
            Term(kernel, chosen @ weights)
            for kernel, chosen, weights in zip(choices.kernels, choices.probabilities, choices.weights, strict=True)
            if chosen.any()
        )
        shares = np.zeros(len(sets))
        for kernel, chosen in zip(choices.kernels, choices.probabilities.sum(axis=1), strict=True):
            shares[kernel.number] += (1 - kernel.beside) * chosen
            shares[kernel.added] += kernel.beside * chosen
        features = tuple(features if share else None for features, share in zip(sets, shares, strict=True))
        noise = float(choices.probabilities.sum(axis=0) @ choices.noises)
        return cls(features, terms, tuple(shares.tolist()), noise)

    def predict(self, sets: Sequence[np.ndarray]) -> np.ndarray:
        """Expected normal scores, ``(k,)``, of points by their features, ``(k, d)`` by set as in ``fit``."""
        return np.asarray(sum(kernel.between(sets, self.features) @ w for kernel, w in self.terms))


class _Choices(NamedTuple):
    """Processes that were tried on ``n`` points.

    Attributes:
        scores: Labels as normal scores, ``(n,)``.
        kernels: Their ``k`` kernels.
        noises: Variances of the noise, ``v`` of them.
        probabilities: Of each process, ``(k, v)``; 0 where it is not followed.
        weights: ``K^-1 y``, ``(k, v, n)``.
    """

    scores: np.ndarray
    kernels: list[Kernel]
    noises: list[float]
    probabilities: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, sets: Sequence[np.ndarray], values: np.ndarray, common: Collection[int], least_noise: float
    ) -> _Choices:
        """All processes that ``GaussianProcess.fit`` is the average of."""
        read = [number for number, features in enumerate(sets) if features.size]
        if not read:
            shapes = ", ".join(str(features.shape) for features in sets)
            raise UsageError(f"a Gaussian process needs points with features, got arrays of shape {shapes or 'none'}")
        scores = normal_scores(values)
        noises = [noise for noise in NOISE if noise >= least_noise]
        others, parts = ([n for n in read if (n in common) == wanted] for wanted in (False, True))
        sums = _likely(sets, scores, noises, [*product(others, BESIDE, parts)])
        kernels, fitted = [], []
        for length, linear in product(LENGTHS, LINEAR):
            for kernel, known in _kernels(sets, [*((n, 0.0, n) for n in read), *sums], length, linear):
                kernels.append(kernel)
                fitted += _fitted(known, scores, noises)
        probabilities = softmax([likelihood for likelihood, _ in fitted])
        probabilities[probabilities < PROBABLE] = 0
        probabilities = (probabilities / probabilities.sum()).reshape(len(kernels), len(noises))
        weights = np.reshape([weights for _, weights in fitted], (*probabilities.shape, len(scores)))
        return cls(scores, kernels, noises, probabilities, weights)


def left_out(
    sets: Sequence[np.ndarray],
    values: np.ndarray,
    groups: np.ndarray,
    common: Collection[int] = (),
    least_noise: float = LEAST_NOISE,
) -> np.ndarray:
    """What a process is expected to say of each point without its group's labels, ``(n,)``, as normal scores.

    In closed form (Rasmussen & Williams, section 5.4.2): from all other labels, but which process is how probable is
    what all labels say.

    Args:
        sets: Features of the same ``n`` points, ``(n, d)`` each, as for ``GaussianProcess.fit``.
        values: ``(n,)``, finite; only their order counts.
        groups: Points that are left out together, ``(n,)``: equal numbers.
        common: As for ``GaussianProcess.fit``.
        least_noise: As for ``GaussianProcess.fit``.

    Raises:
        UsageError: As ``GaussianProcess.fit``.
    """
    choices, found = _Choices.of(sets, values, common, least_noise), np.zeros(len(values))
    together = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for kernel, chosen, solved in zip(choices.kernels, choices.probabilities, choices.weights, strict=True):
        known = kernel.between(sets, sets) if chosen.any() else None
        for probability, noise, weights in zip(chosen, choices.noises, solved, strict=True):
            if known is None or not probability:
                continue
            inverse = cho_solve((_factor(known, noise), True), np.eye(len(weights)))
            for rows in together:
                off = np.linalg.solve(inverse[np.ix_(rows, rows)], weights[rows])
                found[rows] += probability * (choices.scores[rows] - off)
    return found


def refuse_noise(least_noise: float) -> None:
    """Refuse a least variance of noise that leaves nothing to consider.

    Raises:
        UsageError: It does.
    """
    if not least_noise <= NOISE[-1]:
        raise UsageError(f"least_noise is {least_noise}; the most noise considered is {NOISE[-1]}")


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution at the ranks of ``values``, along the first axis."""
    return np.asarray(norm.ppf((rankdata(values, axis=0) - 0.5) / len(values)))


def _alike(one: np.ndarray | None, other: np.ndarray | None, length: float, linear: float) -> np.ndarray:
    """How alike points are by one set of their features, ``(k, d)`` and ``(n, d)``: ``(k, n)``."""
    assert one is not None and other is not None
    products = one @ other.T / one.shape[1]
    squares = [(part**2).sum(axis=1) / part.shape[1] for part in (one, other)]
    distances = np.maximum(squares[0][:, None] + squares[1][None] - 2 * products, 0.0)
    return np.asarray(linear * products + (1 - linear) * np.exp(-0.5 * distances / length**2))


def _kernels(
    sets: Sequence[np.ndarray], read: Sequence[tuple[int, float, int]], length: float, linear: float
) -> Iterator[tuple[Kernel, np.ndarray]]:
    """Kernels on the sets and sums of sets in ``read``, and what they say of the points: each set is looked at once."""
    numbers = {number for first, _, last in read for number in (first, last)}
    one = {number: _alike(sets[number], sets[number], length, linear) for number in numbers}
    for number, beside, added in read:
        known = (1 - beside) * one[number] + beside * one[added] if beside else one[number]
        yield Kernel(number, length, linear, beside, added), known


def _likely(
    sets: Sequence[np.ndarray], scores: np.ndarray, noises: Sequence[float], sums: Sequence[tuple[int, float, int]]
) -> list[tuple[int, float, int]]:
    """The ``sums`` of sets that may be probable, by how likely they make ``scores`` with settings in the middle."""
    tried = [max(found for found, _ in _fitted(known, scores, noises)) for _, known in _kernels(sets, sums, *MIDDLE)]
    least = max(tried, default=0.0) - HOPELESS - HOPELESS_A_LABEL * len(scores)
    return [one for one, likelihood in zip(sums, tried, strict=True) if likelihood >= least]


def _factor(kernel: np.ndarray, noise: float) -> np.ndarray:
    """The lower Cholesky factor of ``kernel`` ``(n, n)`` with the variance of the noise on its diagonal."""
    return np.asarray(cholesky(kernel + noise * np.eye(len(kernel)), lower=True))


def _fitted(kernel: np.ndarray, scores: np.ndarray, noises: Sequence[float]) -> list[tuple[float, np.ndarray]]:
    """By variance of the noise: log marginal likelihood of ``scores``, up to a constant, and ``K^-1 y``."""
    found = []
    for noise in noises:
        factor = _factor(kernel, noise)
        weights = cho_solve((factor, True), scores)
        fit = float(scores @ weights) / len(scores)
        likelihood = -0.5 * len(scores) * np.log(max(fit, 1e-12)) - float(np.log(np.diag(factor)).sum())
        found.append((likelihood, weights))
    return found
