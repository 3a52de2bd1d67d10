"""The Gaussian process baseline: learns from few labels what counts say, reads known columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import search_spaces
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.networks import Networks
from surrogates.free_targets import free_targets, whole_targets
from surrogates.gp import GPConfig, GPSurrogate
from tests.surrogates.started import priced_blocks

SPACE = search_spaces.get("nasbench201")


def networks(count: int, seed: int) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(SPACE, [SPACE.sample(rng) for _ in range(count)])


def test_few_labels_are_enough_for_what_counts_say() -> None:
    few, test = networks(24, 0), networks(100, 1)
    known, truth = free_targets(few), free_targets(test)
    labels = pd.DataFrame({"a": known["live_log_macs"] + 0.3 * known["live_depth"], "b": -known["live_pools"]})
    labels.loc[::4, "b"] = np.nan
    surrogate = GPSurrogate().fit(few, labels)
    found = surrogate.predict(test).frame()
    assert scipy.stats.spearmanr(found["a"], truth["live_log_macs"] + 0.3 * truth["live_depth"]).statistic > 0.9
    assert scipy.stats.spearmanr(found["b"], -truth["live_pools"]).statistic > 0.7
    assert found["a"].between(labels["a"].min() - 5, labels["a"].max() + 5).all()  # in the unit of the labels


def test_known_columns_are_read() -> None:
    few, test, rng = networks(40, 0), networks(100, 1), np.random.default_rng(0)
    hint, hint_there = rng.random(40), rng.random(100)
    labels = pd.DataFrame({"score": hint, "zcp_hint": hint})
    surrogate = GPSurrogate(GPConfig(inputs=("zcp_hint",))).fit(few, labels)
    assert surrogate.metrics == ("score",)
    given = pd.DataFrame({"zcp_hint": hint_there})
    assert scipy.stats.spearmanr(surrogate.predict(test, given=given).mean[:, 0], hint_there).statistic > 0.8
    with pytest.raises(UsageError, match="zcp_hint"):
        surrogate.predict(test)


def test_a_metric_is_learned_from_the_counts_that_its_labels_follow() -> None:
    few, test = networks(48, 0), networks(200, 1)
    known, truth = (whole_targets(graphs)["pools"] for graphs in (few, test))  # dead operations among them
    labels = pd.DataFrame({"run": known, "needed": free_targets(few)["live_pools"]})

    def rho(surrogate: GPSurrogate, metric: str, wanted: pd.Series) -> float:
        predicted = surrogate.fit(few, labels).predict(test).frame()[metric]
        return float(scipy.stats.spearmanr(predicted, wanted).statistic)

    assert rho(GPSurrogate(), "run", truth) > max(0.95, rho(GPSurrogate(GPConfig(counts=("live",))), "run", truth))
    assert rho(GPSurrogate(), "needed", free_targets(test)["live_pools"]) > 0.95
    with pytest.raises(UnknownNameError, match="dead"):
        GPConfig(counts=("live", "dead"))
    with pytest.raises(UsageError, match="counts is empty"):
        GPConfig(counts=())


def test_genes_say_what_is_where(tmp_path: Path) -> None:
    """Which operation is on which edge: counts, which do not know it, leave it open."""
    few, test = networks(64, 0), networks(200, 1)
    genes, there = (np.array([arch.genome for arch in some.architectures]) for some in (few, test))
    worth = np.random.default_rng(2).normal(size=(6, 5))
    truth, wanted = (sum(worth[edge][part[:, edge]] for edge in range(6)) for part in (genes, there))
    labels = pd.DataFrame({"score": truth, "macs": free_targets(few)["live_log_macs"]})

    def rhos(surrogate: GPSurrogate) -> tuple[float, float]:
        found = surrogate.predict(test).frame()
        said = found["score"], found["macs"]
        truths = wanted, free_targets(test)["live_log_macs"]
        return tuple(float(scipy.stats.spearmanr(*pair).statistic) for pair in zip(said, truths, strict=True))

    surrogate = GPSurrogate(GPConfig(genes=True)).fit(few, labels)
    score, macs = rhos(surrogate)
    assert score > 0.9 > rhos(GPSurrogate().fit(few, labels))[0] + 0.2 and macs > 0.95
    surrogate.save_pretrained(tmp_path)
    np.testing.assert_allclose(GPSurrogate.from_pretrained(tmp_path).predict(test).mean, surrogate.predict(test).mean)
    for refused in (lambda: surrogate.predict(list(test[:2])), lambda: surrogate.fit(list(few[:9]), labels[:9])):
        with pytest.raises(UsageError, match=r"bare graphs.*GPConfig\(genes=False\)"):
            refused()


def test_what_adds_up_over_operations_and_their_shapes_is_learned_from_bare_models(tmp_path: Path) -> None:
    some, truth = priced_blocks(160)
    few, test = some[:100], some[100:]
    labels = pd.DataFrame({"latency": truth[:100]})

    def rho(surrogate: GPSurrogate) -> float:
        said = surrogate.fit(list(few), labels).predict(list(test)).mean[:, 0]
        return float(scipy.stats.spearmanr(said, truth[100:]).statistic)

    surrogate = GPSurrogate(GPConfig(shaped=True, least_noise=0.001))
    assert rho(surrogate) > 0.7 > rho(GPSurrogate()) + 0.2
    surrogate.save_pretrained(tmp_path)
    np.testing.assert_allclose(GPSurrogate.from_pretrained(tmp_path).predict(test).mean, surrogate.predict(test).mean)
    strange = networks(3, 0)  # of another space: none of its operations was seen
    assert np.isfinite(surrogate.predict(strange).mean).all()
    with pytest.raises(UsageError, match=r"least_noise is 0\.5"):
        GPConfig(least_noise=0.5)


def test_networks_that_look_the_same_are_refused() -> None:
    same, few = Networks(SPACE, networks(1, 0).architectures * 4), networks(8, 1)
    surrogate = GPSurrogate(GPConfig(shaped=True)).fit(few, pd.DataFrame({"a": range(8)}))
    before = surrogate.predict(few).mean
    with pytest.raises(UsageError, match="features"):
        surrogate.fit(same, pd.DataFrame({"a": range(4)}))
    np.testing.assert_array_equal(surrogate.predict(few).mean, before)  # what it knew, it knows
