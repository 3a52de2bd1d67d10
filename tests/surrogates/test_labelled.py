"""Parts of labelled networks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from surrogates.rlm.labelled import grouped_folds


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_equal_groups_share_a_part(groups: list[int], folds: int, seed: int) -> None:
    keys = np.array(groups)
    parts = grouped_folds(keys, folds, seed=seed)
    assert len(parts) == len(keys) and set(parts) <= set(range(folds))
    assert all(len({*parts[keys == key]}) == 1 for key in keys)
    largest = np.unique(keys, return_counts=True)[1].max()
    assert np.bincount(parts).max() < len(keys) / folds + largest


def test_parts_of_single_networks_are_as_large_as_each_other_and_drawn() -> None:
    parts = [grouped_folds(np.arange(128), 4, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(np.bincount(parts[0]), 32)
    np.testing.assert_array_equal(parts[0], parts[1])
    assert (parts[0] != parts[2]).any() and (np.diff(parts[0]) != 0).sum() > 4
