from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import TrainingError, UsageError
from search_spaces.nasbench101 import NASBench101
from search_spaces.networks import Networks
from surrogates.gnn.encoding import Encoder, GraphBatch, ReadingConfig
from surrogates.gnn.flan import FLAN, FLANConfig
from surrogates.gnn.gat import GATConfig
from surrogates.gnn.gcn import GCN, GCNConfig
from surrogates.gnn.gin import GINConfig
from surrogates.gnn.graph_data import read
from surrogates.gnn.layers import Sizes
from surrogates.gnn.surrogate import GraphSurrogate, Settings
from surrogates.gnn.training import TrainingConfig, fit_network, pairwise_hinge
from surrogates.mlp import MLP, MLPConfig
from surrogates.monotone import MonotoneMap
from tests.surrogates.batches import NB201, batch_of, networks

pytest.importorskip("torch_geometric", reason="the graph baselines need the extra 'gnn'")

NETWORKS: tuple[Settings, ...] = (
    FLANConfig(),
    FLANConfig(attention=False, readout="mean"),
    FLANConfig(flow=False, timesteps=1, directed=False),
    GCNConfig(),
    GINConfig(),
    GINConfig(directed=True),
    GATConfig(readout="output", directed=True),
    GATConfig(readout="both"),
)


def convolutions(nets: Networks) -> pd.DataFrame:
    """A metric that the operations decide."""
    return pd.DataFrame({"cifar10_test": [60.0 + 5 * sum(g in (2, 3) for g in a.genome) for a in nets.architectures]})


def sizes_of(encoder: Encoder) -> Sizes:
    return Sizes(encoder.words, encoder.features, 0, 1, encoder.nodes)


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_scores_do_not_depend_on_padding_or_the_order_of_nodes(config: Settings) -> None:
    encoder, batch = batch_of(networks(6))
    torch.manual_seed(0)
    network = config.build(sizes_of(encoder)).eval()
    expected = network(batch)
    assert expected.shape == (6, 1) and expected.std() > 0
    wider = encoder.encode(read(networks(6), "cells"), np.zeros((6, 0)), nodes=13)
    torch.testing.assert_close(network(wider), expected, rtol=0, atol=2e-5)
    order = torch.tensor([0, *(1 + np.random.default_rng(0).permutation(7))])  # the output stays at 0
    shuffled = GraphBatch(
        batch.operations[:, order],
        batch.adjacency[:, order][:, :, order],
        batch.mask[:, order],
        batch.features[:, order],
        batch.inputs,
    )
    torch.testing.assert_close(network(shuffled), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_scores_see_the_wiring(config: Settings) -> None:
    """Two cells of the same operations on other edges; sizes are off, so only the wires differ."""
    encoder, _ = batch_of(networks(30), sizes=False)
    twins = Networks(NB201, [NB201.architecture(genome) for genome in ((3, 0, 1, 0, 0, 4), (1, 0, 3, 0, 0, 4))])
    torch.manual_seed(0)
    network = config.build(sizes_of(encoder)).eval()
    first, second = network(encoder.encode(read(twins, "cells"), np.zeros((2, 0))))
    assert (first - second).abs() > 1e-6


@pytest.mark.parametrize(
    "surrogate",
    [
        FLAN(FLANConfig(layers=(48, 48), backward=(48,)), TrainingConfig(epochs=15)),
        GCN(GCNConfig(width=48, layers=2), TrainingConfig(epochs=15)),
        GCN(GCNConfig(width=48, layers=2), TrainingConfig(epochs=15, loss="mse")),
        MLP(training=TrainingConfig(epochs=15)),
    ],
    ids=["flan", "gcn", "gcn-mse", "mlp"],
)
def test_they_learn_what_the_operations_decide(surrogate: GraphSurrogate[Settings]) -> None:
    train, test = networks(100), networks(60, seed=7)
    surrogate.fit(train, convolutions(train))
    truth = convolutions(test)["cifar10_test"]
    mean = surrogate.predict(test).mean[:, 0]
    assert scipy.stats.spearmanr(mean, truth).statistic > 0.85
    assert np.abs(mean - truth).mean() < 4  # in the metric's unit; its deviation is 6


def test_known_values_are_read_when_asked_for() -> None:
    """A cell's noise cannot be told from its graph, so only the input can explain it."""
    train, test = networks(60), networks(40, seed=5)
    rng = np.random.default_rng(0)
    labels, given_values = (pd.DataFrame({"zcp_nwot": rng.normal(size=n)}) for n in (60, 40))
    labels["cifar10_test"] = 3 * labels["zcp_nwot"]
    training = TrainingConfig(epochs=30, inputs=("zcp_nwot",))
    surrogate = GCN(GCNConfig(width=32, layers=1), training).fit(train, labels)
    assert surrogate.metrics == ("cifar10_test",)
    mean = surrogate.predict(test, given=given_values).mean[:, 0]
    assert scipy.stats.spearmanr(mean, given_values["zcp_nwot"]).statistic > 0.8
    given_values.iloc[0] = np.nan
    assert np.isfinite(surrogate.predict(test, given=given_values).mean).all()
    with pytest.raises(UsageError, match="zcp_nwot"):
        surrogate.predict(test)
    with pytest.raises(UsageError, match="zcp_nwot"):
        GCN(training=training).fit(train, convolutions(train))


def test_perceptrons_refuse_larger_graphs_or_cut_them() -> None:
    space = NASBench101(channels=8, stacks=1, cells=1, input_size=8)
    rng = np.random.default_rng(0)
    nets = Networks(space, [space.sample(rng) for _ in range(60)])
    vertices = [len(space.cell(arch).matrix) for arch in nets.architectures]
    small = [k for k, count in enumerate(vertices) if count < max(vertices)]
    large = [k for k, count in enumerate(vertices) if count == max(vertices)]
    train = Networks(space, [nets.architectures[k] for k in small])
    surrogate = MLP(training=TrainingConfig(epochs=1)).fit(train, pd.DataFrame({"a_test": range(len(small))}))
    with pytest.raises(UsageError, match="nodes of the largest training graph"):
        surrogate.predict(Networks(space, [nets.architectures[large[0]]]))
    cutting = MLP(MLPConfig(cut=True), TrainingConfig(epochs=1)).fit(train, pd.DataFrame({"a_test": range(len(small))}))
    mean = cutting.predict(Networks(space, [nets.architectures[k] for k in (large[0], small[0])])).mean[:, 0]
    assert np.isfinite(mean).all()
    assert mean[1] == pytest.approx(cutting.predict(train).mean[0, 0], rel=1e-5)  # beside a larger graph as alone


_values = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, float("nan")]), st.floats(-5, 5, width=32)), min_size=2, max_size=6
)


@given(values=_values, seed=st.integers(0, 99))
def test_pairwise_hinge_is_its_definition(values: list[float], seed: int) -> None:
    scores = np.random.default_rng(seed).normal(0, 0.2, len(values))
    terms = [
        max(0.0, 0.1 - (scores[i] - scores[j]))
        for i in range(len(values))
        for j in range(len(values))
        if values[i] > values[j]
    ]
    loss = pairwise_hinge(torch.tensor(scores)[:, None], torch.tensor(values)[:, None].double(), 0.1)
    assert (loss is None) == (not terms)
    if loss is not None:
        assert loss.item() == pytest.approx(np.mean(terms))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    encoder, batch = batch_of(networks(8))
    config = TrainingConfig(epochs=1, loss="mse")
    with pytest.raises(TrainingError, match="learning rate"):
        fit_network(lambda: GCNConfig(width=8).build(sizes_of(encoder)), batch, torch.full((8, 1), 1e30), config)
    fit_network(lambda: GCNConfig(width=8).build(sizes_of(encoder)), batch, torch.randn(8, 1), config)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train = networks(8)
    GCN(training=TrainingConfig(epochs=1, seed=9)).fit(train, convolutions(train))
    assert torch.equal(torch.rand(1), expected)


def test_another_seed_is_another_network() -> None:
    train = networks(12)
    first, second = (
        GCN(training=TrainingConfig(epochs=1, seed=seed)).fit(train, convolutions(train)).predict(train).mean
        for seed in (0, 1)
    )
    assert not np.allclose(first, second)


def test_wrong_settings_name_the_choices() -> None:
    with pytest.raises(UsageError, match="hinge, mse"):
        TrainingConfig(loss="rank")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cell, block, full"):
        ReadingConfig(graph="flat")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size is 1"):
        TrainingConfig(batch_size=1)
    with pytest.raises(UsageError, match="not fitted"):
        GCN().predict([])


_pairs = st.lists(st.tuples(st.floats(-10, 10), st.floats(-100, 100)), min_size=1, max_size=30)


@settings(max_examples=200)
@given(pairs=_pairs)
def test_the_map_to_units_keeps_the_order(pairs: list[tuple[float, float]]) -> None:
    scores, values = np.round(np.array(pairs).T, 3)
    scale = MonotoneMap.fit(scores, values)
    grid = np.linspace(scores.min() - 1, scores.max() + 1, 50)
    if np.ptp(values) > 0.01:
        assert (np.diff(scale(grid)) > 0).all()
    np.testing.assert_allclose(scale(np.array(scale.scores)), scale.values)
    assert MonotoneMap.from_json(scale.to_json()) == scale


def test_the_map_hits_values_that_already_increase() -> None:
    scores = np.array([0.1, -2.0, 0.5, 0.3])
    values = np.array([70.0, 10.0, 94.0, 90.0])
    np.testing.assert_allclose(MonotoneMap.fit(scores, values)(scores), values)
