"""The commands around the benchmark: grids that exist, tuning, the referee, NDS from an official file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from experiments import flan_referee, grids, kendall_tau, nds_few_shot, tune_baselines, zero_cost_values
from nasrlm.bench.inputs import open_table
from nasrlm.bench.methods import EXTRA, METHODS, Method, configure, find, proxies_of
from nasrlm.labels.importers.catalogue import importer
from nasrlm.labels.importers.writing import import_file
from nasrlm.labels.tables import available
from search_spaces.errors import DataNotFoundError
from surrogates import registry

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs and results go to a folder of the test."""
    for module in (kendall_tau, nds_few_shot, zero_cost_values):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
        if hasattr(module, "RESULTS"):
            monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return tmp_path


@needs_tables
def test_what_the_grids_name_is_in_the_tables() -> None:
    present = {table.name: table.metrics for table in available()}
    if not set(present) >= {protocol.table for protocol in grids.core()}:
        pytest.skip(f"only the tables {', '.join(present)} are there")
    for grid in ("core", "full", "quick", "joint"):
        for protocol in grids.GRIDS[grid]():
            assert set(protocol.metrics) <= set(present[protocol.table])
    assert {protocol.table for protocol in grids.full()} == set(present)


@needs_tables
def test_zero_cost_values_of_nasbench201_are_complete(tmp_path: Path) -> None:
    try:
        table = open_table("nasbench201", "", "", ("cifar10_test",), tmp_path)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    if not proxies_of(table):
        pytest.skip("the table of zero-cost proxies is not there")
    assert table.frame[list(proxies_of(table))].notna().all().all()


def nds_file(folder: Path, member: str, space_name: str, networks: int) -> Path:
    """A small file in the official format; the error of a network falls with its (made-up) size."""
    space, rng = search_spaces.get(space_name), np.random.default_rng(0)
    entries = []
    for _ in range(networks):
        flops = float(rng.uniform(1e8, 6e8))
        entries.append(
            {
                "params": flops / 100,
                "flops": flops,
                "net": {**json.loads(space.format(space.sample(rng))), "aux": False, "drop_prob": 0.0},
                "optim": {"max_ep": 1},
                "test_ep_top1": [15 - flops / 1e8 + float(rng.normal())],
            }
        )
    path = folder / member
    path.write_text(json.dumps(entries))
    return path


def test_the_published_protocol_on_official_files(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NASRLM_DATA", str(elsewhere / "data"))
    if not any(table.name.startswith("nds_") for table in available()):  # the cache folder of the platform counts too
        with pytest.raises(DataNotFoundError, match="nasrlm data import nds_darts"):
            grids.nds()
    for name, member, space in (("nds_pnas", "PNAS.json", "pnas"), ("nds_darts", "DARTS.json", "darts")):
        import_file(importer(name), nds_file(elsewhere, member, space, 140), force=True)
    asked = {protocol.table: protocol for protocol in grids.nds()}
    assert asked["nds_pnas"].sizes == (16,) and asked["nds_darts"].sizes == (100,)
    monkeypatch.setattr(nds_few_shot, "nds", lambda: [asked["nds_pnas"], asked["nds_darts"]])
    monkeypatch.setattr(sys, "argv", ["nds_few_shot", "--methods", "flops,xgboost_genome"])
    nds_few_shot.main()
    found = pd.read_csv(elsewhere / "results" / "nds_few_shot.csv").set_index("method")
    assert found.loc["RLM", "nds_pnas"] == 0.427 and found.loc["RLM", "source"] == "published"
    assert found.loc["flops", ["nds_pnas", "nds_darts"]].gt(0.4).all()
    assert "failed" not in capsys.readouterr().out


def configured(method: Method, size: int, *, of_device: bool) -> dict[str, object]:
    """All settings of the surrogate that ``method`` makes for ``size`` labels of an accuracy or a latency."""
    surrogate = registry.create(method.surrogate)
    chosen = {
        **method.settings,
        **(method.sized(size) if method.sized else {}),
        **({} if of_device else method.quality),
    }
    configure(surrogate, chosen, seed=0)
    configs = {name: config for name, config in vars(surrogate).items() if is_dataclass(config)}
    return {f"{name}.{key}": value for name, config in configs.items() for key, value in vars_of(config).items()}


def vars_of(config: object) -> dict[str, object]:
    return {field.name: getattr(config, field.name) for field in fields(config)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", tune_baselines.CHOICES)
def test_every_choice_is_a_setting(name: str) -> None:
    """And it is in force: neither what stood before nor the number of labels overrules a trial."""
    assert set(tune_baselines.CHOICES) == set(tune_baselines.UNTUNED) <= set(METHODS | EXTRA)
    for trial in range(8):
        drawn = tune_baselines.configuration(name, trial)
        assert drawn == tune_baselines.configuration(name, trial) and bool(drawn) == (trial > 0)
        method = tune_baselines.tried(name, drawn)
        for of_device in False, True:
            found = configured(method, 96, of_device=of_device)
            for key, value in drawn.items():
                if not (of_device and key.startswith("quality:")):
                    assert found[key.removeprefix("quality:")] == value


#: Settings that were found later, by experiments/recipe_trials.py.
FURTHER = {
    "flan": ("model.readout",),
    "rlm_tokens": (
        *("training.smoothing", "training.ranking", "training.orders"),
        *("model.dropout", "model.flow", "model.mean_heads"),
        "quality:reading.dead",
    ),
}


@pytest.mark.parametrize("name", tune_baselines.CHOICES)
def test_the_benchmark_runs_what_tuning_chose(name: str) -> None:
    settings, _ = tune_baselines.winners(pd.read_csv(tune_baselines.CSV))[name]
    for of_device in False, True:
        chosen = configured(tune_baselines.tried(name, settings), 128, of_device=of_device)
        standing = configured(find(name), 128, of_device=of_device)
        for setting in FURTHER.get(name, ()):
            if setting.startswith("quality:") and of_device:
                continue
            setting = setting.removeprefix("quality:")
            assert standing.pop(setting) != chosen.pop(setting, None)
        assert _plain(standing) == _plain(chosen)


def _plain(settings: dict[str, object]) -> object:
    return json.loads(json.dumps(settings, default=str))


@needs_tables
def test_a_trial_is_cross_validated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tune_baselines, "FOLDER", tmp_path)
    row = tune_baselines.run(tune_baselines.Trial("xgboost_genome", 1, "nasbench201", "cifar10_test"))
    folds = [float(tau) for tau in str(row["folds"]).split()]
    assert len(folds) == 4 and np.mean(folds) == pytest.approx(row["kendall_tau"], abs=1e-3)
    assert 0.2 < float(str(row["kendall_tau"])) < 0.9


def test_winners_were_judged_on_all_metrics() -> None:
    trials = pd.DataFrame(
        [("gcn", t, "a", m, json.dumps({"t": t}), tau) for t, m, tau in
         [(0, "x", 0.5), (0, "y", 0.5), (1, "x", 0.4), (1, "y", 0.7), (2, "x", 0.9)]],
        columns=["method", "trial", "table", "metric", "settings", "kendall_tau"],
    )  # fmt: skip
    settings, tau = tune_baselines.winners(trials)["gcn"]
    assert settings == {"t": 1} and tau == pytest.approx(0.55)


def test_the_referee_holds_the_tolerance() -> None:
    runs = pd.DataFrame(
        [("nasbench201", 128, s, tau) for s, tau in enumerate([0.76, 0.78])]
        + [("nasbench101", 16, s, tau) for s, tau in enumerate([0.40, 0.50])],
        columns=["table", "n_labels", "seed", "kendall_tau"],
    ).assign(train_cpu_seconds=1.0)
    found = flan_referee.compare(runs).set_index("table")
    assert found["difference"].to_dict() == {"nasbench201": -0.015, "nasbench101": -0.029}
    assert found["within_tolerance"].to_dict() == {"nasbench201": True, "nasbench101": False}


@pytest.mark.slow
@needs_tables
def test_quick_runs_to_the_end(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["kendall_tau", "--quick", "--workers", "1", "--methods", "flops,synflow,xgboost_genome,gcn"]
    monkeypatch.setattr(sys, "argv", arguments)
    kendall_tau.main()
    folder = elsewhere / "runs" / "kendall_tau_quick"
    runs = pd.read_parquet(folder / "kendall_tau_quick.parquet")
    assert runs["kendall_tau"].mean() > 0.4
    assert (folder / "kendall_tau_quick" / "nasbench201.png").is_file()
    page = (folder / "kendall_tau_quick.md").read_text()
    assert "Ceiling" in page and "- commit:" in page and "no values of zcp_synflow" in page


@needs_tables
def test_some_budgets_alone_can_be_run(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["kendall_tau", "--quick", "--workers", "1", "--methods", "flops", "--spaces", "nasbench_macro"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--sizes", "64"])
    kendall_tau.main()
    runs = pd.read_parquet(elsewhere / "runs" / "kendall_tau_quick" / "kendall_tau_quick.parquet")
    assert runs["n_labels"].tolist() == [64]
    monkeypatch.setattr(sys, "argv", [*arguments, "--sizes", "16,65"])
    with pytest.raises(SystemExit):
        kendall_tau.main()
    assert "choose from 16, 64" in capsys.readouterr().err


@needs_tables
def test_runs_of_another_machine_are_taken(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["kendall_tau", "--quick", "--workers", "1", "--spaces", "nasbench_macro", "--sizes", "64"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--methods", "params"])
    kendall_tau.main()
    name = "kendall_tau_quick"
    there = (elsewhere / "runs" / name).rename(elsewhere / "there") / f"{name}.parquet"
    monkeypatch.setattr(sys, "argv", [*arguments, "--methods", "flops", "--take", str(there)])
    kendall_tau.main()
    assert f"1 runs taken over from {there}" in capsys.readouterr().out
    runs = pd.read_parquet(elsewhere / "runs" / name / f"{name}.parquet")
    assert sorted(runs["method"]) == ["flops", "params"]
    (elsewhere / "page.md").write_text("# Kendall tau")
    for wrong, why in ("absent.parquet", "no such file"), ("page.md", "no parquet file of runs"):
        monkeypatch.setattr(sys, "argv", [*arguments, "--take", str(elsewhere / wrong)])
        with pytest.raises(SystemExit):
            kendall_tau.main()
        assert wrong in (said := capsys.readouterr().err) and why in said


@pytest.mark.slow
@needs_tables
def test_computed_proxies_are_taken_when_complete(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = ["zero_cost_values", "--table", "nasbench_macro", "--proxies", "synflow", "--batch", "2", "--rows", "3"]
    monkeypatch.setattr(sys, "argv", part)
    zero_cost_values.main()
    folder = elsewhere / "runs" / "kendall_tau"
    kept = pd.read_parquet(folder / "zero_cost" / "nasbench_macro.part.parquet")
    assert kept["row"].tolist() == [0, 1, 2] and kept["zcp_synflow"].notna().all()
    assert not proxies_of(open_table("nasbench_macro", "", "", ("cifar10_test",), folder))
