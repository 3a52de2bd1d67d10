"""Quantile scales of few and of many labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import UsageError
from surrogates.rlm.scales import KNOTS, TOLERANCE, Scale


def quantiles_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct labels, and the middle of the share of labels that each stands for."""
    values, first, counts = np.unique(labels, return_index=True, return_counts=True)
    return values, (first + 0.5 * counts) / len(labels)


@pytest.mark.parametrize("seed", range(3))
def test_many_labels_need_few_knots(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for labels in (rng.normal(size=9000), rng.standard_t(3, size=9000), rng.integers(0, 2000, 9000) / 10.0):
        values, quantiles = quantiles_of(np.sort(labels))
        scale = Scale.fit("quantile", labels, digits=3)
        assert len(scale.values) < len(values) / 3
        assert np.abs(scale.forward(values) - quantiles).max() <= TOLERANCE
        assert (scale.values[0], scale.values[-1]) == (values[0], values[-1])
        assert (np.diff(scale.values) > 0).all() and (np.diff(scale.quantiles) > 0).all()


def test_ranks_are_a_straight_line() -> None:
    ranks = (np.arange(20_000) + 0.5) / 20_000
    assert Scale.fit("quantile", ranks, digits=1).values == (ranks[0], ranks[-1])


def test_few_labels_are_all_knots() -> None:
    labels = np.random.default_rng(0).normal(size=KNOTS)
    scale = Scale.fit("quantile", np.append(labels, np.nan), digits=3)
    np.testing.assert_array_equal(scale.values, np.sort(labels))
    np.testing.assert_allclose(scale.inverse(scale.forward(labels)), labels, rtol=1e-12)


@given(st.integers(0, 99), st.floats(-0.4, 0.4), st.floats(0.3, 2.0))
def test_a_scale_that_is_moved_reads_what_it_says(seed: int, shift: float, slope: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=60)
    scale = Scale.fit("quantile", labels, digits=3)
    moved = scale.moved(shift, slope)
    numbers = np.linspace(-1, 2, 301)
    meant = shift + slope * numbers
    inside = (meant > 0.029) & (meant < 0.971)
    np.testing.assert_allclose(moved.inverse(numbers)[inside], scale.inverse(meant[inside]), rtol=1e-9, atol=1e-9)
    assert (np.diff(moved.values) > 0).all() and (np.diff(moved.read) > 0).all()
    np.testing.assert_allclose(moved.inverse(moved.place(labels)), labels, atol=1e-9)
    np.testing.assert_allclose(moved.forward(labels), scale.forward(labels))  # what is written stays
    np.testing.assert_allclose(moved.learned.inverse(numbers), scale.inverse(numbers), atol=1e-9)
    assert Scale.from_json(moved.to_json()) == moved and Scale.from_json(scale.to_json()) == scale


@pytest.mark.parametrize("ties", [0, 10])
@pytest.mark.parametrize("count", [16, 128, 500])
def test_no_two_numbers_stand_for_the_same_though_a_scale_is_stretched(count: int, ties: int) -> None:
    labels = np.random.default_rng(0).normal(size=count)
    labels[: ties * count // 100] = labels.min()
    scale = Scale.fit("quantile", labels, digits=3)
    assert (np.diff(scale.moved(-0.25, 1.5).inverse(np.linspace(0, 1, 101))) > 0).all()


def test_where_a_scale_stays_and_where_it_cannot_go() -> None:
    scale = Scale.fit("quantile", np.arange(9.0), digits=3)
    np.testing.assert_allclose(scale.moved(0, 1).inverse(np.array(scale.quantiles[1:-1])), np.arange(1.0, 8.0))
    assert scale.moved(0.3, 0.5).read[0] < 0  # only what is stretched gets there
    assert scale.centre == "mean" and scale.moved(0.3, 0.5).centre == "median"
    for other in Scale.fit("quantile", np.ones(4), digits=3), Scale.fit("raw", np.arange(9.0), digits=3):
        assert other.moved(0.1, 2.0) == other
    with pytest.raises(UsageError, match=r"slope is -1\.0"):
        scale.moved(0, -1.0)
