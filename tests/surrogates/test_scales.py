"""Quantile scales of few and of many labels."""

from __future__ import annotations

import numpy as np
import pytest

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
