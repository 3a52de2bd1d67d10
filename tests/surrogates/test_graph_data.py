"""What graph networks read of ONNX models, and the batches that it becomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx.inliner
import pandas as pd
import pytest

from search_spaces import registry
from search_spaces.errors import UsageError
from search_spaces.nasbench101 import NASBench101
from search_spaces.networks import Networks
from search_spaces.shapes import propagate
from surrogates.gnn.encoding import UNKNOWN, Encoder, ReadingConfig, fused, varying_cells
from surrogates.gnn.gcn import GCN
from surrogates.gnn.graph_data import BETWEEN, NAMED, RawGraph, base_name, read
from surrogates.gnn.training import TrainingConfig
from tests.surrogates.batches import NB201, batch_of, networks

pytest.importorskip("torch_geometric", reason="the graph baselines need the extra 'gnn'")


def test_a_nasbench201_cell_is_read_edge_by_edge() -> None:
    arch = NB201.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|")
    [cell] = [part for part in read([NB201.to_onnx(arch)], "cells")[0] if part.name == "cell"]
    conv3, zero, skip, pool, conv1, last = range(2, 8)
    names = ("relu_conv3x3_bn", "zero", "skip", "avg_pool3x3", "relu_conv1x1_bn", "relu_conv3x3_bn")
    assert cell.operations == ("output", "input0", *names)
    wires = {(1, conv3), (1, zero), (1, pool), (conv3, skip), (conv3, conv1), (zero, last), (skip, last)}
    assert set(cell.edges) == wires | {(pool, 0), (conv1, 0), (last, 0)}
    channels, resolution, parameters, macs, calls = cell.sizes[conv3]
    assert np.expm1([channels, resolution, calls]) == pytest.approx([4, 8, 3])
    assert np.expm1(macs) == pytest.approx(8 * 8 * 4 * 4 * 9)
    assert np.expm1(parameters) == pytest.approx(4 * 4 * 9 + 4 * 4)  # the kernel and four vectors of batch norm
    assert cell.sizes[skip][2:4] == (0.0, 0.0)


def test_nasbench101_cells_are_the_published_matrices() -> None:
    """Projections of the input, which the benchmark does not draw, dissolve into the edges they stand for."""
    space = NASBench101(channels=8, stacks=2, cells=1, input_size=8)
    rng = np.random.default_rng(0)
    nets = Networks(space, [space.sample(rng) for _ in range(40)])
    encoder, batch = batch_of(nets)
    assert encoder.cells == ("cell",) and encoder.entry == "conv1x1_bn_relu"
    names = {"conv3x3-bn-relu": "conv3x3_bn_relu", "conv1x1-bn-relu": "conv1x1_bn_relu", "maxpool3x3": "max_pool3x3"}
    kinds = tuple(names.values())
    for row, arch in enumerate(nets.architectures):
        cell = space.cell(arch)
        last = len(cell.matrix) - 1
        place = [1, *range(2, last + 1), 0]
        expected = np.zeros((encoder.nodes, encoder.nodes))
        for x, line in enumerate(cell.matrix):
            for y, edge in enumerate(line):
                expected[place[y], place[x]] = edge
        np.testing.assert_array_equal(batch.adjacency[row], expected)
        words = [encoder.vocabulary[index - UNKNOWN - 1] for index in batch.operations[row, : last + 1].argmax(dim=1)]
        assert words == ["output", "input0", *(kinds[op] for op in cell.operations)]


@pytest.mark.parametrize("name", ["nasbench201", "darts", "nasbench_macro", "ofa_mobilenetv3", "enas_macro", "hiaml"])
def test_any_space_can_be_read(name: str) -> None:
    space = registry.get(name)
    rng = np.random.default_rng(0)
    nets = Networks(space, [space.sample(rng) for _ in range(4)])
    [whole] = read(nets[:1], "full")[0]
    targets = {target for _, target in whole.edges}
    sources = {source for source, _ in whole.edges}
    assert whole.operations[0] == "output" and whole.operations[1] == "input0"
    assert all(source < target or target == 0 for source, target in whole.edges)  # acyclic
    assert targets == set(range(len(whole.operations))) - {1}  # everything but the input is fed
    assert sources >= {1} and 0 not in sources
    # Nothing is lost: parameters of the nodes are those of the network (and batch norm's statistics).
    counted = np.expm1([size[2] for size in whole.sizes]).sum()
    body = propagate(nets[0])
    total = sum(t.size for n in body.nodes for t in n.inputs if t is not None and t.parameter)
    assert counted == pytest.approx(total, rel=1e-6)
    surrogate = GCN(training=TrainingConfig(epochs=1)).fit(nets, pd.DataFrame({"cifar10_test": [1.0, 2.0, 3.0, 4.0]}))
    assert np.isfinite(surrogate.predict(nets).mean).all()


@pytest.mark.parametrize("name", ["nasbench_macro", "ofa_mobilenetv3", "mnasnet", "fbnet", "enas_macro", "hiaml"])
def test_blocks_are_named_by_all_that_is_inside(name: str) -> None:
    """The calls of the main graph hold the same operators, parameters and MACs as the whole network."""
    space = registry.get(name)
    rng = np.random.default_rng(1)
    nets = Networks(space, [space.sample(rng) for _ in range(4)])
    for [blocks], [whole], model in zip(read(nets, "blocks"), read(nets, "full"), nets, strict=True):
        assert len(blocks.operations) <= len(whole.operations)
        words = [word for operation in blocks.operations for word in operation.split(BETWEEN)]
        inside = [word for word in words if not word.startswith(NAMED)]
        assert {word[1:] for word in words if word.startswith(NAMED)} == {
            word for node in model.graph.node if node.domain for word in base_name(node.op_type).split("_")
        }
        flat = inlined(model)
        assert len(inside) - 2 == len(flat) and {word.split("_")[0] for word in inside[2:]} == set(flat)
        for column in (2, 3):  # parameters, MACs
            first, second = [np.expm1([row[column] for row in graph.sizes]).sum() for graph in (blocks, whole)]
            assert first == pytest.approx(second, rel=1e-9)
    parts = read(nets, "blocks")
    encoder = Encoder.learn(parts, ReadingConfig())
    assert encoder.kind == "blocks" and not any(BETWEEN in word for word in encoder.vocabulary)
    batch = encoder.encode(parts, np.zeros((4, 0)))
    assert batch.operations.norm(dim=2) == pytest.approx(batch.mask[..., 0], abs=1e-6)
    bare = Encoder.learn(parts, ReadingConfig(sizes=False))  # widths are nowhere else: sizes stay
    assert bare.features == encoder.features > 0 and bare.scale == encoder.scale


def inlined(model: onnx.ModelProto) -> list[str]:
    """Operators of a network without functions."""
    nodes = onnx.inliner.inline_local_functions(model).graph.node
    return [node.op_type for node in nodes if node.op_type != "Constant"]


def test_fused_graphs_lose_nothing() -> None:
    """Every convolution of a chain takes its normalisation and activation along."""
    space = registry.get("ofa_mobilenetv3")
    net = Networks(space, [space.sample(np.random.default_rng(3))])
    [whole] = read(net, "full")[0]
    small = fused(whole)
    assert len(small.operations) < 0.7 * len(whole.operations)
    parts = [part for name in small.operations for part in name.split(BETWEEN)]
    assert sorted(parts) == sorted(whole.operations)
    for column in (2, 3):  # parameters, MACs
        before, after = [np.expm1([row[column] for row in graph.sizes]).sum() for graph in (whole, small)]
        assert after == pytest.approx(before, rel=1e-9)
    assert {target for _, target in small.edges} == set(range(len(small.operations))) - {1}
    assert all(source < target or target == 0 for source, target in small.edges)
    assert not any(name.startswith("BatchNormalization") for name in small.operations)


def test_an_operator_that_others_read_stays_a_node_of_its_own() -> None:
    def graph(*edges: tuple[int, int]) -> RawGraph:
        names = ("output", "input0", "Conv", "Relu", "Sigmoid")
        return RawGraph("", names, edges, tuple((float(k), 0.0, 0.0, 0.0, 0.0) for k in range(5)), (), (3, 4))

    chain = fused(graph((1, 2), (2, 3), (3, 4), (4, 0)))
    assert chain.operations == ("output", "input0", "Conv Relu Sigmoid") and chain.edges == ((1, 2), (2, 0))
    assert chain.sizes[2][0] == 4.0  # channels of what it writes
    forked = fused(graph((1, 2), (2, 3), (2, 4), (3, 0), (4, 0)))
    assert forked.operations == ("output", "input0", "Conv", "Relu", "Sigmoid")
    assert fused(graph((1, 2), (1, 3), (2, 0), (3, 4), (4, 0))).operations == (
        "output",
        "input0",
        "Conv",
        "Relu Sigmoid",
    )


def test_dropped_operations_are_those_that_do_not_touch_the_result() -> None:
    """Cells are equal once dead operations are dropped exactly if their live operations are."""
    config = ReadingConfig(dead="drop")
    nets = networks(120)
    parts = read(nets, "cells")
    encoder = Encoder.learn(parts, config, varying_cells(parts))
    batch = encoder.encode(parts, np.zeros((len(nets), 0)))
    assert "zero" not in encoder.vocabulary
    sources, targets = (0, 0, 1, 0, 1, 2), (1, 2, 2, 3, 3, 3)
    for row, arch in enumerate(nets.architectures):
        flowing, used = {0}, {3}
        for source, target, op in zip(sources, targets, arch.genome, strict=True):
            if op and source in flowing:
                flowing.add(target)
        for source, target, op in reversed(list(zip(sources, targets, arch.genome, strict=True))):
            if op and target in used:
                used.add(source)
        live = sum(
            bool(op) and source in flowing and target in used
            for source, target, op in zip(sources, targets, arch.genome, strict=True)
        )
        assert int(batch.mask[row].sum()) == live + 2
    everything = Encoder.learn(parts, ReadingConfig(), varying_cells(parts))
    assert (everything.encode(parts, np.zeros((len(nets), 0))).mask.sum(dim=1) == 8).all()


def test_cells_that_never_change_are_not_read() -> None:
    parts = read(networks(20), "cells")
    assert {part.name for part in parts[0]} == {"cell", "residual_reduction"}
    assert varying_cells(parts) == ("cell",)
    assert varying_cells(parts[:1]) == ()


def test_names_lose_their_channels() -> None:
    assert base_name("sep_conv3x3_c64_s2") == "sep_conv3x3_s2"
    assert base_name("mbconv5x5_e6_h240_swish") == "mbconv5x5_e6_swish"
    assert base_name("conv3x3_bn") == "conv3x3_bn"


def test_unseen_operations_are_unknown_and_foreign_cells_refused() -> None:
    train = Networks(NB201, [a for a in networks(60).architectures if 4 not in a.genome])
    encoder, _ = batch_of(train)
    pooled = Networks(NB201, [NB201.architecture([4] * 6)])
    batch = encoder.encode(read(pooled, "cells"), np.zeros((1, 0)))
    assert (batch.operations[0, 2:].argmax(dim=1) == UNKNOWN).all()
    assert (batch.operations.norm(dim=2) == 1).all()
    macro = registry.get("nasbench_macro")
    foreign = Networks(macro, [macro.sample(np.random.default_rng(0))])
    with pytest.raises(UsageError, match="graph='block'"):
        encoder.encode(read(foreign, "cells"), np.zeros((1, 0)))


def test_full_and_cell_graphs_of_one_network() -> None:
    nets = networks(3)
    [whole], cells = read(nets, "full")[0], read(nets, "cells")[0]
    inner = next(cell for cell in cells if cell.name == "cell")
    assert isinstance(whole, RawGraph)
    blocks = [name for name in inner.operations if name not in ("output", "input0")]
    for block in set(blocks):  # three stages of one cell, and two reductions, which hold 3x3 convolutions
        assert whole.operations.count(block) >= 3 * blocks.count(block)
    assert read(list(nets), "full") == read(nets, "full")
    assert replace(inner, name="x").wiring == inner.wiring
