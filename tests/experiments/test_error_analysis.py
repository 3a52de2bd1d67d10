"""Error analysis on predictions whose errors are known."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import error_analysis
from experiments.error_analysis import BY_LOT, figures_of, looked_at, page, ranks, strongest
from nasrlm.metrics import kendall_tau
from search_spaces.errors import DataNotFoundError, UsageError
from surrogates.rlm.distillation import tied

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


def test_errors_are_traced_to_what_causes_them() -> None:
    rng = np.random.default_rng(0)
    truth, depth, width = rng.normal(size=(3, 800))
    width += truth  # says how good a network is; no error comes from that
    guesses = {
        "oracle": truth,
        "deep": truth + depth,
        "deeper": truth + 2 * depth,
        "noisy": truth + rng.normal(size=800),
    }
    chosen = rng.permutation(800)[:500]
    properties = pd.DataFrame({"depth": depth[chosen], "width": width[chosen], "same": np.ones(500)})
    rows = pd.DataFrame(figures_of(truth, guesses, chosen, properties), columns=["kind", "method", "subject", "value"])

    def value(kind: str, method: str, subject: str) -> float:
        [found] = rows[(rows["kind"] == kind) & (rows["method"] == method) & (rows["subject"] == subject)]["value"]
        return float(found)

    assert value("tau", "oracle", "all") == value("tau", "oracle", "best quarter") == 1
    assert value("tau", "deep", "best quarter") < value("tau", "deep", "all") < 1
    assert value("property", "deep", "depth") > 0.8 > 0.2 > abs(value("property", "deep", "width"))
    assert abs(value("property", "noisy", "depth")) < 0.2
    assert value("shared", "deep", "deeper") > 0.8 and abs(value("shared", "deep", "noisy")) < 0.15
    assert "same" not in set(rows["subject"])  # what does not vary explains nothing
    deep = rows[(rows["kind"] == "property") & (rows["method"] == "deep")]
    assert strongest(deep).startswith("depth +")
    rows = rows.assign(table="t", metric="m", n_labels=16, draws=1)
    written = page(rows[rows["method"] != "oracle"])
    assert written.count("\n| deep") == 2 and "16 labels (1 draws)" in written


def test_ties_by_lot_are_as_good_as_lots() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=1000)
    coarse = np.round(2 * (truth + 0.5 * rng.normal(size=1000)))
    rows = figures_of(truth, {"coarse": coarse}, np.arange(10), pd.DataFrame(index=range(10)))
    taus = {subject: value for kind, _, subject, value in rows if kind == "tau"}
    lots = [kendall_tau(truth, coarse + 1e-6 * rng.normal(size=1000)) for _ in range(20)]
    assert taus["all"] > taus[BY_LOT] + 0.03 and taus[BY_LOT] == pytest.approx(np.mean(lots), abs=0.005)
    assert tied(np.array([1.0, 1.0, 2.0, 3.0])) == pytest.approx(1 / 6) and tied(np.ones(1)) == 0


def test_equal_values_share_their_rank() -> None:
    np.testing.assert_allclose(ranks(np.array([3.0, 1.0, 3.0, 9.0])), [0.5, 0.0, 0.5, 1.0])


@needs_tables
def test_without_runs_it_says_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_analysis, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["error_analysis", "--methods", "rlm,gcn", "--tables", "nasbench201"])
    with pytest.raises(DataNotFoundError, match="--methods rlm,gcn --spaces nasbench201"):
        error_analysis.main()


def test_tables_that_the_benchmark_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["error_analysis", "--tables", "imagenet"])
    with pytest.raises(UsageError, match="imagenet"):
        error_analysis.main()
    with pytest.raises(UsageError, match="choose from cifar10_test, pixel3_latency_ms"):
        looked_at("nasbench201:params")
    protocol, metric = looked_at("nasbench201:eyeriss_latency_ms")
    assert (protocol.table, metric) == ("nasbench201", "eyeriss_latency_ms")
    assert looked_at("nasbench101")[1] == "cifar10_test"
