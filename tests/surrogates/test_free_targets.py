"""Free targets: right on graphs made by hand, and equal to a count over every node of the whole network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import search_spaces
from search_spaces import blocks
from search_spaces import primitives as P
from search_spaces.graph import GraphBuilder, Scope, Value
from search_spaces.networks import Networks
from surrogates.free_targets import TARGETS, WHOLE_TARGETS, count_sets, free_targets, whole_targets
from surrogates.gnn.graph_data import INPUT, RawGraph, read

_WEIGHTS, _MACS = 2, 3  # places in ``RawGraph.sizes``


def targets(net: GraphBuilder) -> dict[str, float]:
    (row,) = free_targets([net.model()]).to_dict("records")
    return {str(name): float(value) for name, value in row.items()}


def node_by_node(graph: RawGraph) -> dict[str, float]:
    """The targets that the expanded graph of a network shows, by walking all its nodes."""
    sizes, dead = np.expm1(np.array(graph.sizes)), graph.dead
    live = [node for node in range(len(graph.operations)) if node not in dead]
    weighted = [float(sizes[node, _WEIGHTS] > 0) for node in range(len(graph.operations))]
    feeding: dict[int, list[int]] = {node: [] for node in live}
    for source, target in graph.edges:
        if target in feeding and source in feeding:
            feeding[target].append(source)
    paths, total = dict.fromkeys(live, 0.0), dict.fromkeys(live, 0.0)
    depth, critical = dict.fromkeys(live, 0.0), dict.fromkeys(live, 0.0)
    for node in [*sorted(live)[1:], 0]:
        if graph.operations[node].startswith(INPUT):
            paths[node] = 1.0
        elif feeding[node]:
            own = feeding[node]
            paths[node] = sum(paths[source] for source in own)
            total[node] = sum(total[source] for source in own) + weighted[node] * paths[node]
            depth[node] = max(depth[source] for source in own) + weighted[node]
            critical[node] = max(critical[source] for source in own) + sizes[node, _MACS]
    return {
        "log_params": math.log1p(sizes[:, _WEIGHTS].sum()),
        "log_macs": math.log1p(sizes[:, _MACS].sum()),
        "live_log_params": math.log1p(sizes[live, _WEIGHTS].sum()),
        "live_log_macs": math.log1p(sizes[live, _MACS].sum()),
        "live_operations": sum(weighted[node] for node in live),
        "live_depth": depth[0],
        "live_log_paths": math.log1p(paths[0]),
        "live_path_length": total[0] / paths[0] if paths[0] else 0.0,
        "live_log_critical_macs": math.log1p(critical[0]),
    }


def test_a_chain() -> None:
    """A 3x3 and a 1x1 convolution on 8x8 pixels, then the head."""
    net = GraphBuilder("chain", (3, 8, 8))
    x = blocks.conv_bn_relu(net, net.input, channels=4, kernel=3)
    x = blocks.conv_bn_relu(net, x, channels=5, kernel=1)
    net.output(blocks.linear_head(net, x, classes=10))
    found = targets(net)
    macs = 64 * 4 * 27 + 64 * 5 * 4 + 5 * 10
    written = 3 * 64 * 4 + 3 * 64 * 5 + 5 + 5 + 10
    assert found["live_log_macs"] == pytest.approx(math.log1p(macs))
    assert found["live_log_critical_macs"] == found["log_macs"] == found["live_log_macs"]
    assert found["live_log_params"] == pytest.approx(math.log1p(4 * 27 + 4 * 4 + 5 * 4 + 4 * 5 + 60))
    assert found["live_log_bytes"] == pytest.approx(math.log1p(4 * written))
    assert found["live_log_reach"] == pytest.approx(math.log1p(2 / 8))
    assert found["live_log_paths"] == pytest.approx(math.log(2))
    assert (found["live_operations"], found["live_depth"], found["live_path_length"]) == (3, 3, 3)
    kinds = ("convs", "pointwise_convs", "depthwise_convs", "pools", "skips", "linear")
    assert [found[f"live_{kind}"] for kind in kinds] == [1, 1, 0, 0, 0, 1]
    assert all(value == found[f"live_{name}"] for name, value in whole_targets([net.model()]).iloc[0].items())


def test_branches_and_what_is_dead() -> None:
    """Beside a dead 5x5 convolution behind a zero and one that nobody reads: skip + (depthwise separable, pool)."""
    net = GraphBuilder("branches", (4, 16, 16))
    x = net.input
    dead = blocks.conv_bn_relu(net, blocks.zero(net, x), channels=4, kernel=5)
    blocks.conv_bn_relu(net, x, channels=4, kernel=3)
    separable = blocks.sep_conv(net, x, channels=4, kernel=3, stride=2)
    pooled = blocks.max_pool(net, blocks.skip(net, x), kernel=3, stride=2)
    kept = P.add(net, separable, pooled, blocks.max_pool(net, dead, kernel=3, stride=2))
    net.output(blocks.linear_head(net, kept, classes=2))
    found = targets(net)
    assert found["live_log_macs"] < found["log_macs"]
    assert found["live_log_params"] < found["log_params"]
    kinds = ("convs", "pointwise_convs", "depthwise_convs", "pools", "skips", "linear")
    assert [found[f"live_{kind}"] for kind in kinds] == [0, 2, 2, 1, 1, 1]
    assert (found["live_operations"], found["live_depth"]) == (2, 2)
    assert found["live_log_paths"] == pytest.approx(math.log(3))
    assert found["live_path_length"] == pytest.approx(1.5)  # one path of two, one of one
    # first at 16 pixels, then, behind the stride, at 8
    assert found["live_log_reach"] == pytest.approx(math.log1p(2 / 16 + 2 / 8))
    whole = whole_targets([net.model()]).iloc[0]
    assert whole[list(kinds)].tolist() == [2, 2, 2, 2, 1, 1] and whole["operations"] == 4
    assert whole["log_bytes"] > found["live_log_bytes"]


def test_one_tensor_passed_twice_is_one_wire() -> None:
    """A cell that adds its two inputs: once of one tensor, once of two."""

    def cell(scope: Scope, a: Value, b: Value) -> Value:
        return blocks.conv_bn_relu(scope, P.add(scope, a, b), channels=4, kernel=3)

    net = GraphBuilder("twice", (4, 8, 8))
    first = net.call("cell", cell, net.input, net.input)
    net.output(net.call("cell", cell, first, net.input))
    found = targets(net)
    assert found["live_log_paths"] == pytest.approx(math.log(3))
    assert (found["live_operations"], found["live_depth"], found["live_path_length"]) == (2, 2, 1.5)


def test_nothing_reaches_the_output() -> None:
    net = GraphBuilder("dead", (4, 8, 8))
    net.output(blocks.zero(net, blocks.conv_bn_relu(net, net.input, channels=4, kernel=3)))
    found = targets(net)
    assert found["log_macs"] > 0
    assert all(found[name] == 0 for name in TARGETS if name.startswith("live"))


@settings(max_examples=30)
@given(name=st.sampled_from(search_spaces.names()), seed=st.integers(0, 2**32))
def test_calls_compose_to_what_the_whole_network_shows(name: str, seed: int) -> None:
    space = search_spaces.get(name)
    model = space.to_onnx(space.sample(np.random.default_rng(seed)))
    (graph,) = read([model], "full")[0]
    expected = node_by_node(graph)
    found = free_targets([model])[list(expected)].to_numpy()[0]
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-9, atol=1e-9)
    with_weights = sum(sizes[_WEIGHTS] > 0 for sizes in graph.sizes)
    assert whole_targets([model])["operations"].item() == with_weights


def test_networks_and_models_agree() -> None:
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    networks = Networks(space, [space.sample(rng) for _ in range(5)])
    assert free_targets(networks).equals(free_targets(list(networks)))
    assert whole_targets(networks).equals(whole_targets(list(networks)))
    live, whole, both = count_sets(networks)
    assert (live.shape, whole.shape) == ((5, len(TARGETS)), (5, 2 + len(WHOLE_TARGETS)))
    assert both.shape == (5, len(TARGETS) + len(WHOLE_TARGETS))
