"""What is made of the runs: scores, leads, ceilings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from nasrlm.bench.ceiling import noise_ceiling
from nasrlm.bench.protocol import Protocol, Task
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Predictions, Store
from nasrlm.bench.summary import best_of, summarise
from nasrlm.labels.own_table import own_table


def test_a_lead_must_hold_on_networks_and_on_labels(protocol: Protocol, tmp_path: Path) -> None:
    """Four methods with made-up bootstrap samples: the best, its twin, one worse throughout, one worse by one seed."""
    rng = np.random.default_rng(0)
    store, wide = Store(tmp_path), replace(protocol, sizes=(8,), seeds=5)
    for seed in range(5):
        noise = rng.normal(0, 0.01, 200)
        taus = {"best": 0.8, "twin": 0.799, "worse": 0.7, "unlucky": 0.8 - 0.2 * (seed == 0)}
        for name, tau in taus.items():
            own = tau + noise + rng.normal(0, 0.005, 200)
            record = {"space": "s", "table": "mine", "metric": "board_latency_ms", "method": name, "n_labels": 8,
                      "seed": seed, "kendall_tau": tau, "spearman_rho": tau, "train_seconds": [1, 2, 3, 9, 9][seed],
                      "train_cpu_seconds": 1.0, "queries_per_second": 1.0, "settings": {},
                      "machine": "usual" if seed < 3 else "fast"}  # fmt: skip
            store.write(Task(wide, wide.metrics, name, 8, seed), wide.metrics[0], record, Predictions(own, own))
    found = summarise(store.runs(wide), [wide], store).set_index("method")
    assert found["rank"].to_dict() == {"best": "best", "twin": "tied", "worse": "", "unlucky": "tied"}
    assert found["train_seconds"].eq(2).all()  # seconds of two machines do not mix
    assert found.loc["worse", "behind"] == pytest.approx(0.1)
    assert found.loc["worse", "behind_low"] < 0.1 < found.loc["worse", "behind_high"]
    assert found.loc["unlucky", "behind_low"] > 0 and found.loc["unlucky", "behind_half"] > 0.04


def test_the_best_is_found_on_draws_that_all_have() -> None:
    """Neither more runs nor an easy draw makes a method better than one that leads on the same labels."""
    all_draws = pd.Series({0: 0.2, 1: 0.3, 2: 0.9})
    lucky, ahead = pd.Series({1: 0.1, 2: 0.95}), pd.Series({0: 0.5, 1: 0.6})
    assert best_of({"all_draws": all_draws, "ahead": ahead}) == "ahead"
    assert best_of({"all_draws": all_draws, "ahead": ahead, "lucky": lucky}) == "ahead"
    assert best_of({"early": all_draws[[0]], "late": all_draws[[1, 2]]}) == "late"  # nothing shared: most draws


def test_the_ceiling_is_the_agreement_of_twins(tmp_path: Path) -> None:
    space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(800)]
    keys = [space.canonical(net) for net in nets]
    quality = {key: rng.normal() for key in keys}
    truth = np.array([quality[key] for key in keys])
    found = []
    for noise in (0.0, 0.3, 3.0):
        frame = pd.DataFrame({"arch": [space.format(net) for net in nets]})
        frame["toy_test"] = frame["board_latency_ms"] = truth + noise * rng.normal(size=len(nets))
        frame.to_csv(tmp_path / "mine.csv", index=False)
        table = own_table(tmp_path / "mine.csv", "nasbench201", ("toy_test", "board_latency_ms"))
        found.append(noise_ceiling(table, "toy_test"))
        assert np.isnan(noise_ceiling(table, "board_latency_ms"))
    assert found[0] == pytest.approx(1.0) and 0.3 < found[1] < 0.95 and found[2] < 0.2


def test_scores_are_those_of_the_predictions(protocol: Protocol, tmp_path: Path) -> None:
    run_tasks(plan([protocol], ["flops"], tmp_path).tasks, tmp_path)
    found = Store(tmp_path).runs(protocol)
    assert (found["kendall_tau"] > 0.999).all()  # the label is the MACs
    predictions = Store(tmp_path).predictions(protocol, "board_latency_ms", 16, 1, "flops")
    assert len(predictions.mean) == found["test_networks"].iloc[-1] and len(predictions.resampled) == 20
    assert found["queries_per_second"].gt(0).all() and found["train_seconds"].ge(0).all()
