"""Levers: each differs from its base in one decision, and effects are paired by draw."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import ablations
from experiments.ablations import LEVERS, SCRATCH, STANDING, Lever, chosen, decided, differences
from nasrlm.bench.protocol import Protocol
from search_spaces.errors import UsageError

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


def test_levers_come_with_what_they_are_compared_with() -> None:
    assert chosen("wide,sharp") == [STANDING, SCRATCH, "wide", "sharp"]
    assert chosen("raw") == [STANDING, SCRATCH, "scratch_unranked", "raw"]
    with pytest.raises(UsageError, match=r"--levers wider: choose from standing, .*wide"):
        chosen("wide,wider")


@needs_tables
@pytest.mark.parametrize("name", [name for name in LEVERS if name != STANDING])
def test_a_lever_changes_something(name: str) -> None:
    """A lever that changes nothing at either budget would measure noise."""
    lever = LEVERS[name]
    protocols = [Protocol("nasbench201", (ablations.METRIC,), (size,), 1) for size in (16, 128)]
    assert any(decided(lever, protocol) != decided(LEVERS[lever.base], protocol) for protocol in protocols)


def test_effects_are_paired_by_draw() -> None:
    rows = pd.DataFrame(
        [
            ("standing", "a", "t", 16, 100, 0.5, 10.0),
            ("standing", "a", "t", 16, 101, 0.7, 10.0),
            ("sharp", "new", "t", 16, 100, 0.6, 20.0),
            ("sharp", "new", "t", 16, 101, 0.9, 20.0),
            ("sharp", "new", "t", 16, 102, 0.1, 20.0),  # a draw that its base was not run on
        ],
        columns=[*ablations.KEYS, "kendall_tau", "cpu_seconds"],
    )
    found = differences(rows).set_index("lever")
    assert np.isnan(found.loc["standing", "effect"])
    assert found.loc["sharp", "effect"] == pytest.approx(0.15) and found.loc["sharp", "draws"] == 2
    assert found.loc["sharp", "half"] == pytest.approx(12.7062 * 0.05, rel=1e-4)  # t of one degree of freedom
    assert found.loc["sharp", "cost"] == 2


@needs_tables
def test_rows_of_an_earlier_recipe_are_left_out() -> None:
    """A lever is compared with its base by the settings of today, not with a base of yesterday."""
    protocol = Protocol("nasbench201", (ablations.METRIC,), (16,), 1, ablations.TEST)
    today = {name: ablations.settings_of(LEVERS[name], protocol) for name in (STANDING, "sharp")}
    rows = pd.DataFrame(
        [
            (STANDING, today[STANDING], "nasbench201", 16, 100, 0.7, 10.0),
            (STANDING, "before", "nasbench201", 16, 100, 0.5, 10.0),
            ("sharp", today["sharp"], "nasbench201", 16, 100, 0.6, 10.0),
            ("unanchored", "before", "nasbench201", 16, 100, 0.9, 10.0),
            ("forgotten", "before", "nasbench201", 16, 100, 0.9, 10.0),
        ],
        columns=[*ablations.KEYS, "kendall_tau", "cpu_seconds"],
    )
    assert ablations.current(rows).index.tolist() == [0, 2]
    assert ablations.current(rows.iloc[3:]).empty


@needs_tables
def test_a_lever_that_decides_nothing_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "run", lambda *_: {"kendall_tau": 0.5, "cpu_seconds": 1.0})
    out = tmp_path / "ablations.csv"
    options = ["--tables", "nasbench201", "--levers", "unanchored", "--seeds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["ablations", *options])
    ablations.main()
    rows = pd.read_csv(out)
    assert set(zip(rows["lever"], rows["n_labels"], strict=True)) == {
        (STANDING, 16),
        (STANDING, 128),
        ("unanchored", 16),  # with 128 labels there is no anchor
    }


@needs_tables
def test_what_is_there_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {"training.epochs": 1, "model.width": 24, "model.feed_forward": 16, "model.encoder_layers": 1}
    few = {
        STANDING: Lever("small", quick, method="rlm_scratch"),
        "sharp": Lever("sharp", {**quick, "training.smoothing": 0.02}, method="rlm_scratch"),
        "twice": Lever("two fits", quick, method="rlm_scratch", fits=2),
    }
    monkeypatch.setattr(ablations, "LEVERS", few)
    monkeypatch.setattr(ablations, "TEST", 30)
    out = tmp_path / "ablations.csv"
    options = ["--tables", "nasbench_macro", "--sizes", "16", "--out", str(out)]
    for seeds in ("1", "2"):
        argv = ["ablations", *options, "--levers", "sharp,twice", "--seeds", seeds]
        monkeypatch.setattr(sys, "argv", argv)
        ablations.main()
    rows = pd.read_csv(out, dtype={"settings": str})
    assert not rows.duplicated(ablations.KEYS).any() and len(rows) == 6
    assert rows["kendall_tau"].between(-1, 1).all()
    assert capsys.readouterr().out.count("'lever': 'standing'") == 2
    text = out.with_suffix(".md").read_text()
    assert "## nasbench_macro, 16 labels" in text and "| two fits | standing |" in text
