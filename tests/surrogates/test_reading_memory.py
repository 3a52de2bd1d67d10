"""Networks that were read are let go: a search or a benchmark reads them by the thousand."""

from __future__ import annotations

import gc
from collections.abc import Callable

import onnx
import pytest

import search_spaces
from search_spaces.analysis import count_macs
from search_spaces.networks import Networks, sample_networks
from search_spaces.shapes import ShapedBody
from surrogates.free_targets import count_sets
from surrogates.gnn.graph_data import read
from surrogates.shaped_operations import by_reading
from surrogates.text.linearize import linearize

READERS: dict[str, Callable[[list[onnx.ModelProto]], object]] = {
    "counts": count_sets,
    "shaped operations": by_reading,
    "multiply-accumulates": lambda models: [count_macs(model) for model in models],
    "text": lambda models: [linearize(model) for model in models],
    "live text": lambda models: [linearize(model, live=True) for model in models],
    "graph": lambda models: read(models, "blocks"),
}


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("space", ["nasbench201", "mnasnet"])
def test_main_graphs_are_let_go(space: str, what: str) -> None:
    networks = sample_networks(search_spaces.get(space), 40, seed=7)
    models = [*networks]
    names = {model.graph.name for model in models}
    READERS[what](models[:1])
    before = held(names)
    READERS[what](models[1:])
    assert held(names) <= before


@pytest.mark.parametrize("read_networks", [count_sets, by_reading])
def test_remembering_an_architecture_keeps_no_graph(read_networks: Callable[[Networks], object]) -> None:
    networks = sample_networks(search_spaces.get("nasbench201"), 40, seed=8)
    names = {model.graph.name for model in networks}
    before = held(names)
    read_networks(networks)
    assert held(names) <= before


def held(names: set[str]) -> int:
    """Shaped main graphs in memory."""
    gc.collect()
    return sum(type(one) is ShapedBody and one.name in names for one in gc.get_objects())
