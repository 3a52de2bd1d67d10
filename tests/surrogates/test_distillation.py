"""Pseudo-labels: what Gaussian processes guess, how far they are trusted, and how they go with the views of models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasrlm.metrics import spearman_rho
from search_spaces.errors import UsageError
from surrogates.gaussian_process import normal_scores
from surrogates.rlm import distillation
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.distillation import Processes, TeachingConfig, places_of, pseudo_labels, shares, tau


def sets(seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(80, 3)), rng.normal(size=(80, 3)), np.ones((80, 2))


def first(values: np.ndarray) -> np.ndarray:
    """``values`` of the first of 80 networks; the others were not measured."""
    return np.append(values, np.full(80 - len(values), np.nan))


def test_labels_choose_what_they_follow_from() -> None:
    one, other, constant = sets()
    processes = Processes([constant, one, other])
    for numbers in one, other:
        labels = first(numbers[:30].sum(axis=1))
        guess = processes.guess(labels)
        assert guess.shape == (80,)
        assert spearman_rho(guess[30:], numbers[30:].sum(axis=1)) > 0.95
        assert processes.trust(labels) > 0.6
    with pytest.raises(UsageError, match="features"):
        Processes([constant]).guess(first(one[:30, 0]))


def test_genes_say_what_is_where() -> None:
    """A label that numbers and genes explain together; one gene is the same for all."""
    rng = np.random.default_rng(0)
    numbers, genes = rng.normal(size=(80, 3)), rng.integers(0, 3, size=(80, 6))
    one_hot = np.hstack([genes[:, [gene]] == np.arange(3) for gene in range(6)] + [np.ones((80, 1))]).astype(float)
    truth = numbers.sum(axis=1) + 2 * (genes == 1).sum(axis=1) - 2 * (genes[:, 0] == 2)
    without, processes = Processes([numbers]), Processes([numbers], [one_hot])
    assert spearman_rho(processes.guess(first(truth[:50]))[50:], truth[50:]) > 0.9
    assert processes.trust(first(truth[:50])) > without.trust(first(truth[:50])) + 0.2
    alike = Processes([numbers], [np.ones((80, 4))])
    np.testing.assert_allclose(alike.guess(first(truth[:50])), without.guess(first(truth[:50])))


def test_noise_is_not_trusted() -> None:
    one, other, _ = sets()
    noise = np.random.default_rng(1).normal(size=(20, 40))
    trusts = [Processes([one, other]).trust(first(labels)) for labels in noise]
    assert min(trusts) == 0.0 and np.mean(trusts) < 0.03


def test_labels_that_are_missing_teach_nothing() -> None:
    one, *_ = sets()
    processes, values = Processes([one]), first([])
    values[4:6] = 1.0, 2.0
    assert processes.trust(values) == 0.0 and not processes.guess(values).any()
    values[6:30] = one[6:30, 0]
    values[4:6] = np.nan
    assert spearman_rho(processes.guess(values)[30:], one[30:, 0]) > 0.95


@pytest.mark.parametrize("refitted", [False, True])
def test_labels_are_guessed_from_those_of_other_groups(refitted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one, *_ = sets()
    truth, groups = one.sum(axis=1), np.arange(80) // 2
    processes, values = Processes([one]), first(truth[:30])
    values[30:32] = 9.0, np.nan  # an outlier; the other of its group was not measured
    found = processes.without(values, groups, refitted=refitted)
    assert spearman_rho(found[:30], truth[:30]) > 0.95 and found[30] < found.max(initial=-np.inf, where=values < 9)
    assert np.isnan(found[32:]).all() != refitted  # whoever refits may as well say what he thinks of all others
    known = processes.guess(np.where(groups == 15, np.nan, values))[30]
    np.testing.assert_allclose(found[30], known, atol=0.2)
    assert np.isnan(processes.without(first([5.0]), groups, refitted=refitted)[0]) == refitted  # nothing to learn from
    if not refitted:
        monkeypatch.setattr(distillation, "MOST", 20)
        recent = processes.without(values, groups, refitted=False)
        assert np.isfinite(recent[:31]).all() and spearman_rho(recent[:30], truth[:30]) > 0.9
        np.testing.assert_allclose(recent[:11], processes.guess(values)[:11])


def test_who_orders_labels_better_is_followed_further() -> None:
    truth = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    assert tau(truth, np.array([1.0, 2.0, 9.0, 3.0, 4.0])) == 1.0
    assert tau(truth, np.zeros(5)) == tau(np.full(5, np.nan), truth) == tau(truth, np.full(5, np.nan)) == 0.0
    found = shares(np.array([[0.8, 0.5], [0.7, 0.5], [0.0, 0.5]]))
    np.testing.assert_allclose(found.sum(axis=0), 1)
    np.testing.assert_allclose(found[:, 1], 1 / 3)
    assert found[0, 0] / found[1, 0] == pytest.approx(np.exp(2)) and found[2, 0] < 1e-6


def test_the_pool_is_learned_in_a_way_of_its_own() -> None:
    training = TrainingConfig(epochs=99, ranking=30.0, anchor=7.0, orders=2, weight_decay=0.3)
    found = TeachingConfig(100, passes=3, pool_ranking=2.0).of_the_pool(training)
    assert (found.epochs, found.batch_size, found.ranking, found.anchor, found.orders) == (3, 64, 2.0, 0.0, 1)
    assert found.weight_decay == 0.3


def mixed(scores: np.ndarray, trust: float, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of one metric that one model predicts."""
    frame, labels = pd.DataFrame({"score": own}), pd.DataFrame({"score": values})
    return pseudo_labels([frame], scores[:, None], np.array([[1 - trust], [trust]]), labels)["score"].to_numpy()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.integers(3, 30), st.floats(0.01, 100.0))
def test_each_has_a_say_as_far_as_it_is_trusted(seed: int, trust: float, count: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    values, order = unit * np.exp(rng.normal(size=count)), np.sort(rng.normal(size=25))
    own = np.linspace(values.min(), values.max(), 25)
    np.testing.assert_allclose(mixed(order[::-1], 0.0, own, values), own)  # nobody but the model
    for share in trust, 1.0:
        assert (np.diff(mixed(order, share, own, values)) >= 0).all()  # both agree
    assert (np.diff(mixed(order[::-1], 1.0, own, values)) <= 0).all()  # nobody but the process


def test_what_lies_beyond_the_labels_is_told_apart() -> None:
    values, scores = np.arange(9.0), np.linspace(-1.0, 1.0, 400)
    scores = np.append(scores, [-9.0, -8.0, 8.0, 9.0])
    found = mixed(scores, 0.9, np.interp(scores, np.linspace(-1, 1, 9), values), values)
    assert found[-4] < found[-3] < 0 and 8 < found[-2] < found[-1]


def test_every_metric_has_teachers_of_its_own() -> None:
    own = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [30.0, 10.0, 20.0], "a_std": [0.0, 0.0, 0.0]})
    calm = pd.DataFrame({"a": [3.0, 2.0, 1.0], "b": [10.0, 20.0, 30.0]})
    labels = pd.DataFrame({"a": [1.0, 3.0, np.nan, 2.0], "b": [np.nan, 10.0, 30.0, 20.0]})
    guessed = np.array([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0]])

    def named(*trust: tuple[float, float]) -> pd.DataFrame:
        return pseudo_labels([own, calm], guessed, np.array(trust), labels)

    found = named((1.0, 0.0), (0.0, 0.0), (0.0, 1.0))
    assert list(found) == ["a", "b"]
    np.testing.assert_allclose(found["a"], own["a"])
    assert found["b"].is_monotonic_decreasing
    found = named((0.0, 0.5), (1.0, 0.5), (0.0, 0.0))
    np.testing.assert_allclose(found["a"], calm["a"])
    assert found["b"].iloc[1] < found["b"].iloc[0] < found["b"].iloc[2]


def test_what_models_say_too_near_the_middle_is_brought_to_its_place() -> None:
    """Two models, the second of which is not followed; a metric of which nobody knows how well it is told."""
    rng = np.random.default_rng(0)
    scores = normal_scores(rng.normal(size=200))
    labels = pd.DataFrame({"cost": np.exp(scores), "other": np.exp(scores)})
    labels.loc[::7, "cost"] = np.nan
    own = pd.DataFrame({name: np.exp(0.5 * scores + 0.2) for name in labels})
    trust = np.array([[0.6, 0.6], [0.0, 0.0], [0.4, 0.4]])
    places = places_of([own, -own], trust, labels, {"cost": 0.9})
    ((name, (shift, slope)),) = places.items()
    assert name == "cost" and slope == pytest.approx(2, rel=0.1) and shift == pytest.approx(-0.4, abs=0.1)
    fresh = pd.DataFrame({name: np.exp(0.5 * np.linspace(-1, 1, 9) + 0.2) for name in labels})
    named = pseudo_labels([fresh, fresh], np.zeros((9, 2)), np.array([[1.0, 1.0], [0, 0], [0, 0]]), labels, places)
    np.testing.assert_allclose(np.log(named["cost"]), np.linspace(-1, 1, 9), atol=0.15)
    np.testing.assert_allclose(np.log(named["other"]), 0.5 * np.linspace(-1, 1, 9) + 0.2, atol=0.05)
