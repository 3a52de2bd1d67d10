"""A metric read off from known ones: what mixtures it finds, and which networks it asks for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasrlm.metrics import spearman_rho
from search_spaces.errors import UsageError
from surrogates.gaussian_process import normal_scores
from surrogates.rlm.read_off import agreement, far_apart, read_off


def test_mixtures_are_found_that_no_single_reading_is_like() -> None:
    """Labels that are missing have no say."""
    rng = np.random.default_rng(0)
    read = rng.normal(size=(210, 12))
    truth = np.exp(read[:, :4] @ np.array([1.0, -1.0, 1.0, -1.0]))
    few, fresh, values = read[:10], read[10:], truth[:10]
    found = read_off(few, values, fresh)
    assert found.shape == (200,)
    best = max(abs(spearman_rho(truth[10:], column)) for column in fresh.T)
    assert spearman_rho(truth[10:], found) > best + 0.1
    with_gaps = read_off(np.concatenate([few, read[50:55]]), np.append(values, [np.nan] * 5), fresh)
    np.testing.assert_allclose(with_gaps, found)
    with pytest.raises(UsageError, match="got 1 labels"):
        read_off(few, np.array([1.0] + [np.nan] * 9), fresh)
    with pytest.raises(UsageError, match="got a label of -1;"):
        read_off(few, -np.ones(10), fresh)


@pytest.mark.filterwarnings("error")
def test_agreement_is_tau_of_the_known_and_least_where_there_is_none() -> None:
    read = np.array([[1.0, 3.0, 5.0], [2.0, 2.0, 5.0], [9.0, 9.0, 5.0], [3.0, 1.0, 5.0]])
    np.testing.assert_allclose(agreement(read, np.array([10.0, 20.0, np.nan, 30.0])), [1.0, -1.0, -1.0])
    for known in [np.nan, np.nan, np.nan, 1.0], [np.nan] * 4:
        np.testing.assert_array_equal(agreement(read, np.array(known)), -1.0)


def test_neither_the_unit_of_labels_nor_the_scale_of_readings_counts() -> None:
    rng = np.random.default_rng(1)
    read, values = rng.normal(size=(60, 5)), rng.uniform(1, 9, size=10)
    found = read_off(read[:10], values, read[10:])
    np.testing.assert_allclose(read_off(np.exp(read[:10]), 1000 * values, np.exp(read[10:])), found)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 99))
def test_networks_to_measure_are_far_from_each_other(count: int, readings: int, seed: int) -> None:
    """No network that is left out is farther from those chosen than these are from each other."""
    read = np.random.default_rng(seed).permutation(30 * readings).reshape(30, readings)
    chosen = far_apart(read, count, seed=seed)
    assert len(set(chosen.tolist())) == count
    if count in (1, 30):
        return

    scores = normal_scores(read)
    apart = np.linalg.norm(scores[:, None] - scores[None], axis=2)
    among = apart[np.ix_(chosen, chosen)] + np.eye(count) * 1e9
    left = apart[np.ix_(np.setdiff1d(np.arange(30), chosen), chosen)].min(axis=1)
    assert left.max() <= among.min() + 1e-9


def test_more_networks_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(UsageError, match="count is 4; choose from 1 to 3"):
        far_apart(np.zeros((3, 2)), 4, seed=0)
