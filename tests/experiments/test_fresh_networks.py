"""What being read without a label is worth to a test network, on predictions for which it is known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import fresh_networks
from experiments.fresh_networks import KEYS, among_fresh, compared, together
from experiments.grids import core
from nasrlm.bench.inputs import table_of
from nasrlm.bench.protocol import Task
from nasrlm.bench.store import Predictions, Store
from search_spaces.errors import DataNotFoundError, UsageError

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")
METRIC = "cifar10_test"


def test_tables_that_the_benchmark_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fresh_networks", "--tables", "imagenet"])
    with pytest.raises(UsageError, match=r"--tables imagenet: choose from .*nasbench201"):
        fresh_networks.main()


def test_rows_of_other_budgets_stay() -> None:
    before = pd.DataFrame([["a", "acc", 128, 1.0], ["a", "acc", 512, 2.0]], columns=[*KEYS, "rlm_fresh"])
    found = pd.DataFrame([["a", "acc", 512, 3.0], ["b", "acc", 512, 4.0]], columns=[*KEYS, "rlm_fresh"])
    assert together(before, found)["rlm_fresh"].tolist() == [1.0, 3.0, 4.0]
    other = found.rename(columns={"rlm_fresh": "rlm_free_fresh"})  # of another method
    assert together(before, other).equals(other) and together(before[:0], found).equals(found)


@needs_tables
def test_without_runs_it_says_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_networks, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["fresh_networks", "--tables", "nasbench_macro"])
    with pytest.raises(DataNotFoundError, match="--methods rlm,gp --spaces nasbench_macro"):
        fresh_networks.main()


@needs_tables
def test_only_a_method_that_knows_fresh_networks_better_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [protocol] = [one for one in core() if one.table == "nasbench_macro"]
    monkeypatch.setattr(fresh_networks, "FOLDER", tmp_path)
    monkeypatch.setattr(fresh_networks, "complete", lambda *_: True)
    store, table = Store(tmp_path), table_of(protocol, tmp_path)
    for seed in range(protocol.seeds):
        among = among_fresh(table, protocol, METRIC, 128, seed, "rlm")
        assert 0.2 < among.mean() < 0.5
        truth = store.truth(protocol, METRIC, 128, seed)
        noise = np.random.default_rng(seed).normal(size=len(truth)) * truth.std()
        for method, mean in {"rlm": truth + noise * np.where(among, 0.1, 1), "gp": truth + noise}.items():
            task = Task(protocol, (METRIC,), method, 128, seed)
            store.write(task, METRIC, {}, Predictions(mean, np.zeros(2)))
    [row] = compared(protocol, METRIC, 128, ("rlm", "gp"))
    assert row["draws"] == protocol.seeds and row["gain"] > 0.2 > 0.05 > row["half"]
    assert row["rlm_fresh"] > row["gp_fresh"] and row["rlm_not"] == row["gp_not"]
    [same] = compared(protocol, METRIC, 128, ("rlm", "rlm"))
    assert same["gain"] == 0


@needs_tables
def test_a_method_that_reads_no_fresh_networks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [protocol] = [one for one in core() if one.table == "nasbench_macro"]
    monkeypatch.setattr(fresh_networks, "FOLDER", tmp_path)
    table = table_of(protocol, tmp_path)
    with pytest.raises(UsageError, match="--method gp reads no fresh networks with 128 labels"):
        among_fresh(table, protocol, METRIC, 128, 0, "gp")


@needs_tables
def test_where_a_device_was_measured_only_the_same_network_reads_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [protocol] = [one for one in core() if one.table == "nasbench201"]
    monkeypatch.setattr(fresh_networks, "FOLDER", tmp_path)
    table = table_of(protocol, tmp_path)
    accuracy, latency = (
        among_fresh(table, protocol, metric, 128, 0, "rlm") for metric in (METRIC, "pixel3_latency_ms")
    )
    assert latency.mean() < 0.15 < 0.3 < accuracy.mean()  # most cells have dead operations
