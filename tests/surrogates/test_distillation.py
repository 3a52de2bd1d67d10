"""Pseudo-labels: what Gaussian processes guess, how far they are trusted, and how they go with the model's own view."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasrlm.metrics import spearman_rho
from search_spaces.errors import UsageError
from surrogates.rlm.distillation import Guess, pseudo_labels


def sets(seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(80, 3)), rng.normal(size=(80, 3)), np.ones((80, 2))


def test_labels_choose_what_they_follow_from() -> None:
    one, other, constant = sets()
    for numbers in one, other:
        guess = Guess.of([constant, one, other], numbers[:30].sum(axis=1))
        assert guess.scores.shape == (50,)
        assert spearman_rho(guess.scores, numbers[30:].sum(axis=1)) > 0.95
        assert guess.trust > 0.6
    with pytest.raises(UsageError, match="features"):
        Guess.of([constant], one[:30, 0])


def test_noise_is_not_trusted() -> None:
    one, other, _ = sets()
    noise = np.random.default_rng(1).normal(size=(20, 40))
    trusts = [Guess.of([one, other], labels).trust for labels in noise]
    assert min(trusts) == 0.0 and np.mean(trusts) < 0.03


def test_labels_that_are_missing_teach_nothing() -> None:
    one, *_ = sets()
    values = np.full(30, np.nan)
    values[4:6] = 1.0, 2.0
    guess = Guess.of([one], values)
    assert guess.trust == 0.0 and guess.scores.shape == (50,)
    values[6:30] = one[6:30, 0]
    values[4:6] = np.nan
    assert spearman_rho(Guess.of([one], values).scores, one[30:, 0]) > 0.95


def mixed(guess: Guess, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    return pseudo_labels([guess], pd.DataFrame({"score": own}), pd.DataFrame({"score": values}))["score"].to_numpy()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.integers(3, 30), st.floats(0.01, 100.0))
def test_each_has_a_say_as_far_as_it_is_trusted(seed: int, trust: float, count: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    values, order = unit * np.exp(rng.normal(size=count)), np.sort(rng.normal(size=25))
    own = np.linspace(values.min(), values.max(), 25)
    np.testing.assert_allclose(mixed(Guess(order[::-1], 0.0), own, values), own)  # nobody but the model
    for guess in Guess(order, trust), Guess(order, 1.0):
        assert (np.diff(mixed(guess, own, values)) >= 0).all()  # both agree
    assert (np.diff(mixed(Guess(order[::-1], 1.0), own, values)) <= 0).all()  # nobody but the process


def test_what_lies_beyond_the_labels_is_told_apart() -> None:
    values, scores = np.arange(9.0), np.linspace(-1.0, 1.0, 400)
    scores = np.append(scores, [-9.0, -8.0, 8.0, 9.0])
    found = mixed(Guess(scores, 0.9), np.interp(scores, np.linspace(-1, 1, 9), values), values)
    assert found[-4] < found[-3] < 0 and 8 < found[-2] < found[-1]


def test_a_metric_that_is_not_guessed_keeps_the_view_of_the_model() -> None:
    own = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [30.0, 10.0, 20.0], "a_std": [0.0, 0.0, 0.0]})
    labels = pd.DataFrame({"a": [1.0, 3.0, np.nan, 2.0], "b": [np.nan, 10.0, 30.0, 20.0]})
    found = pseudo_labels([Guess(np.zeros(3), 0.0), Guess(np.array([1.0, 2.0, 3.0]), 1.0)], own, labels)
    assert list(found) == ["a", "b"]
    np.testing.assert_allclose(found["a"], own["a"])
    assert found["b"].is_monotonic_increasing
