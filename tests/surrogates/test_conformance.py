"""Every surrogate of the registry through the conformance suite."""

from __future__ import annotations

from typing import ClassVar

import pytest

from search_spaces.base import SearchSpace
from search_spaces.nasbench_macro import NASBenchMacro
from surrogates import registry
from surrogates.base import Surrogate
from surrogates.gnn.encoding import ReadingConfig
from surrogates.gnn.flan import FLAN, FLANConfig
from surrogates.gnn.gat import GAT
from surrogates.gnn.gcn import GCN
from surrogates.gnn.gin import GIN
from surrogates.gnn.training import TrainingConfig
from surrogates.gp import GPConfig, GPSurrogate
from surrogates.mlp import MLP
from surrogates.rlm import RLM, ModelConfig
from surrogates.rlm import TrainingConfig as RLMTrainingConfig
from surrogates.scalar import NWOT, FLOPs, GradNorm, Jacov, Params, ScalarConfig, Snip, Synflow, Zen
from surrogates.tabular import XGBoostConfig, XGBoostSurrogate
from surrogates.testing import SurrogateTestCase

pytest.importorskip("torch_geometric", reason="the graph baselines need the extra 'gnn'")


def quick(seed: int, *, joint: bool = False, loss: str = "hinge") -> TrainingConfig:
    return TrainingConfig(epochs=4, joint=joint, loss=loss, seed=seed)  # type: ignore[arg-type]


class TestGCN(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GCN(training=quick(seed))


class TestGCNOnWholeNetworks(SurrogateTestCase):
    space: ClassVar[SearchSpace] = NASBenchMacro(input_size=16)

    def create(self, *, seed: int = 0) -> Surrogate:
        return GCN(training=quick(seed, joint=True, loss="mse"), reading=ReadingConfig(graph="full"))


class TestGIN(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GIN(training=quick(seed, loss="mse"))


class TestGAT(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GAT(training=quick(seed, joint=True))


class TestFLAN(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return FLAN(FLANConfig(layers=(32, 32), backward=(32,), head=(32,)), quick(seed))


class TestMLP(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return MLP(training=quick(seed))


class TestGP(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GPSurrogate()


class TestGPOnGenes(SurrogateTestCase):
    bare = False

    def create(self, *, seed: int = 0) -> Surrogate:
        return GPSurrogate(GPConfig(genes=True))


class TestGPOnShapedOperations(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GPSurrogate(GPConfig(shaped=True))


class TestXGBoost(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return XGBoostSurrogate(XGBoostConfig(trees=20, members=2, seed=seed))


class TestXGBoostOnGenomes(SurrogateTestCase):
    bare = False

    def create(self, *, seed: int = 0) -> Surrogate:
        return XGBoostSurrogate(XGBoostConfig(features="genome", trees=20, members=2, seed=seed))


class TestRLM(SurrogateTestCase):
    independent = False  # later metrics condition on earlier ones

    def create(self, *, seed: int = 0) -> Surrogate:
        model = ModelConfig(width=32, encoder_layers=1, decoder_layers=1, heads=("producers", "all"), feed_forward=32)
        return RLM(model, RLMTrainingConfig(epochs=2, batch_size=8, seed=seed, precision="float32"), vocabulary=300)


class TestRLMOfLines(SurrogateTestCase):
    independent = False

    def create(self, *, seed: int = 0) -> Surrogate:
        heads = ("producers", "all")
        model = ModelConfig(32, encoder_layers=1, decoder_layers=1, heads=heads, feed_forward=32, encoder="lines")
        return RLM(model, RLMTrainingConfig(epochs=2, batch_size=8, seed=seed, precision="float32"), vocabulary=300)


class TestFLOPs(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return FLOPs()


class TestParams(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return Params()


class TestNWOT(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return NWOT(ScalarConfig(batch_size=8, seed=seed))


class TestSynflow(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return Synflow(ScalarConfig(batch_size=2, seed=seed))


class TestJacov(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return Jacov(ScalarConfig(batch_size=8, seed=seed))


class TestSnip(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return Snip(ScalarConfig(batch_size=4, seed=seed))


class TestGradNorm(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return GradNorm(ScalarConfig(batch_size=4, seed=seed))


class TestZen(SurrogateTestCase):
    def create(self, *, seed: int = 0) -> Surrogate:
        return Zen(ScalarConfig(batch_size=4, seed=seed))


def test_every_built_in_surrogate_is_tested() -> None:
    cases = [case for case in SurrogateTestCase.__subclasses__() if case.__module__ == __name__]
    tested = {type(case().create()) for case in cases}  # type: ignore[abstract]
    assert {registry.get(name) for name in registry.BUILT_IN} <= tested
