"""Gaussian process regression: it learns functions, ignores outliers, and picks noise by likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import UsageError
from surrogates import gaussian_process
from surrogates.gaussian_process import GaussianProcess, left_out, normal_scores


def sample(n: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return x, np.sin(1.5 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + noise * rng.standard_normal(n)


def test_it_learns_a_smooth_function() -> None:
    (x, y), (there, truth) = sample(200, 0), sample(300, 1)
    process = GaussianProcess.fit([x], y)
    assert scipy.stats.spearmanr(process.predict([there]), truth).statistic > 0.9
    assert all(term.kernel.linear < 1 for term in process.terms)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_only_the_order_of_labels_counts(seed: int, scale: float) -> None:
    x, y = sample(20, seed)
    y = np.round(y, 3)  # so that scaling keeps ties
    there = sample(10, seed + 1)[0]
    before = GaussianProcess.fit([x], y).predict([there])
    np.testing.assert_allclose(GaussianProcess.fit([x], np.exp(y)).predict([there]), before)
    np.testing.assert_allclose(GaussianProcess.fit([x], y * scale + 3).predict([there]), before)


def test_noisy_labels_get_more_noise() -> None:
    clean, noisy = (GaussianProcess.fit([x], y) for x, y in (sample(150, 3, noise) for noise in (0.0, 2.0)))
    assert clean.noise < noisy.noise


def test_a_linear_function_is_told_from_few_points() -> None:
    rng = np.random.default_rng(0)
    x, there = rng.standard_normal((16, 12)), rng.standard_normal((200, 12))
    process = GaussianProcess.fit([x], x[:, 0] + x[:, 1])
    assert max(process.terms, key=lambda term: abs(term.weights).sum()).kernel.linear > 0
    assert scipy.stats.spearmanr(process.predict([there]), there[:, 0] + there[:, 1]).statistic > 0.6


def test_labels_say_which_features_they_follow() -> None:
    (x, y), (other, _) = sample(100, 0), sample(100, 2)
    there, elsewhere = sample(300, 1)[0], sample(300, 3)[0]
    process = GaussianProcess.fit([other, x, np.zeros((100, 0))], y)
    assert process.shares[1] > 0.99 and process.features[0] is None and process.features[2] is None
    found = process.predict([elsewhere, there, np.zeros((300, 0))])
    np.testing.assert_allclose(found, GaussianProcess.fit([x], y).predict([there]))


def test_labels_that_do_not_say_it_are_guessed_by_all() -> None:
    x, y = sample(6, 0)
    process = GaussianProcess.fit([x, x], y)
    np.testing.assert_allclose(process.shares, [0.5, 0.5])
    there = sample(9, 1)[0]
    np.testing.assert_allclose(process.predict([there, there]), GaussianProcess.fit([x], y).predict([there]))


def test_what_two_sets_say_together_is_learned_from_both() -> None:
    """Two sets that only a sum of functions of each explains, and a third that says nothing."""
    rng = np.random.default_rng(0)
    one, two, three = (rng.standard_normal((400, 6)) for _ in range(3))
    known, there = slice(0, 100), slice(100, 400)
    y = one.sum(axis=1) + two.sum(axis=1)

    def rho(sets: list[np.ndarray], common: tuple[int, ...]) -> float:
        process = GaussianProcess.fit([part[known] for part in sets], y[known], common)
        assert sum(process.shares) == pytest.approx(1)
        return float(scipy.stats.spearmanr(process.predict([part[there] for part in sets]), y[there]).statistic)

    assert rho([three, one, two], (2,)) > 0.95 > 0.8 > rho([three, one, two], ())
    process = GaussianProcess.fit([part[known] for part in (three, one, two)], y[known], (2,))
    assert process.shares[0] < 0.01 and 0.3 < process.shares[2] < 0.7
    alone = GaussianProcess.fit([one[known]], one[known, 0])  # a set without features is added to none
    same = GaussianProcess.fit([one[known], np.zeros((100, 0))], one[known, 0], (1,))
    np.testing.assert_allclose(same.predict([one[there], np.zeros((300, 0))]), alone.predict([one[there]]))


def test_less_noise_is_considered_where_it_may_be() -> None:
    x, y = sample(80, 0)
    there, truth = sample(300, 1)
    rough, exact = (GaussianProcess.fit([x], y, least_noise=least) for least in (0.1, 0.001))
    assert rough.noise >= 0.1 > 0.02 > exact.noise
    errors = [np.mean((one.predict([there]) - truth) ** 2) for one in (rough, exact)]
    assert errors[1] < errors[0]


def test_sums_that_are_hopeless_are_left_out_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sets = [rng.standard_normal((80, 4)) for _ in range(5)]
    y = sets[1].sum(axis=1) + sets[4].sum(axis=1)
    tried: list[int] = []
    fitted = gaussian_process._fitted
    monkeypatch.setattr(gaussian_process, "_fitted", lambda *given: tried.append(1) or fitted(*given))
    found = []
    for hopeless in 1e9, 20.0:
        tried.clear()
        monkeypatch.setattr(gaussian_process, "HOPELESS", hopeless)
        said = GaussianProcess.fit(sets, y, (3, 4)).predict(sets)
        found.append((said, len(tried)))
    (everything, most), (some, less) = found
    np.testing.assert_allclose(some, everything, atol=1e-6)
    settings = len(gaussian_process.LENGTHS) * len(gaussian_process.LINEAR)
    assert most == 12 + settings * (5 + 12) > less >= 12 + settings * (5 + 1)


def test_what_a_process_says_of_labels_that_it_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one choice exactly what is computed from the other points; of all choices about what refitting gives."""
    x, y = sample(60, 0, 0.3)
    groups = np.arange(60) // np.array([1, 4] * 30)  # some points alone, others together
    by_refitting = np.zeros(60)
    for group in np.unique(groups):
        held = groups == group
        by_refitting[held] = GaussianProcess.fit([x[~held]], y[~held]).predict([x[held]])
    said = left_out([x], y, groups)
    assert np.corrcoef(said, by_refitting)[0, 1] > 0.98 > 0.9 > np.corrcoef(said, normal_scores(y))[0, 1]

    for name, only in ("LENGTHS", 1.0), ("LINEAR", 0.5), ("NOISE", 0.1):
        monkeypatch.setattr(gaussian_process, name, (only,))
    covariance, expected = gaussian_process._alike(x, x, 1.0, 0.5), np.zeros(60)
    for group in np.unique(groups):
        held = groups == group
        others = covariance[np.ix_(~held, ~held)] + 0.1 * np.eye((~held).sum())
        expected[held] = covariance[np.ix_(held, ~held)] @ np.linalg.solve(others, normal_scores(y)[~held])
    np.testing.assert_allclose(left_out([x], y, groups), expected, atol=1e-9)
    with pytest.raises(UsageError, match="features"):
        left_out([np.zeros((5, 0))], np.arange(5.0), np.arange(5))


def test_normal_scores() -> None:
    np.testing.assert_allclose(normal_scores(np.array([3.0, 1.0, 2.0])), [0.9674, -0.9674, 0.0], atol=1e-4)
    assert normal_scores(np.ones((4, 2))) == pytest.approx(0.0)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(UsageError, match="features"):
        GaussianProcess.fit([np.zeros((5, 0))], np.arange(5.0))
    with pytest.raises(UsageError, match="none"):
        GaussianProcess.fit([], np.arange(5.0))
