"""Zero-cost proxies of small copies: for every space, deterministic, and close to those of the networks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import search_spaces
from experiments.fresh_graphs import StreamConfig
from search_spaces.errors import UnknownNameError
from search_spaces.registry import BUILT_IN
from surrogates.small_networks import OPTIONS, small_scores
from surrogates.zero_cost import scores

#: Spaces where nwot says nothing: no ReLU, or units that do not tell sixteen inputs apart.
NO_RELU_CODE = ("inception", "mnasnet", "two_path")


def test_every_built_in_space_has_a_small_copy() -> None:
    assert set(OPTIONS) == set(BUILT_IN)
    with pytest.raises(UnknownNameError, match="small copies"):
        small_scores("nowhere", [], ["nwot"])


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_proxies_of_small_copies(name: str) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(2)]
    proxies = StreamConfig().proxies
    found = small_scores(name, archs, proxies)
    assert found.shape == (2, len(proxies))
    silent = {"nwot"} if name in NO_RELU_CODE else set()
    assert set(found.columns[found.isna().any()]) == silent
    assert small_scores(name, archs[1:], ["synflow"])["synflow"].iloc[0] == found["synflow"].iloc[1]


def test_they_rank_like_the_networks_themselves() -> None:
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(1)
    archs = [space.sample(rng) for _ in range(12)]
    small, large = small_scores("nasbench201", archs, ["synflow"]), scores(list(map(space.to_onnx, archs)), ["synflow"])
    known = small["synflow"].notna() & (large["synflow"] > -1e8)
    assert scipy.stats.spearmanr(small["synflow"][known], large["synflow"][known]).statistic > 0.8


def test_a_network_without_flow_has_no_value() -> None:
    space = search_spaces.get("nasbench201")
    dead = space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    assert small_scores("nasbench201", [dead], ["jacov"]).isna().to_numpy().all()
