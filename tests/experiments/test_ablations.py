"""Levers: each differs from its base in one decision, and effects are paired by draw."""

from __future__ import annotations

import os
import sys
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import ablations
from experiments.ablations import LEVERS, SCRATCH, STANDING, Lever, chosen, differences
from nasrlm.labels.tables import load_table
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
    table, lever = load_table("nasbench201"), LEVERS[name]

    def decided(by: Lever, size: int) -> tuple[object, ...]:
        surrogate = by.made().create(table, ["cifar10_test"], size, 0)
        configs = [value for value in vars(surrogate).values() if is_dataclass(value)]
        return configs, getattr(surrogate, "value_scale", ""), by.fits, by.made().weights(table)

    assert any(decided(lever, size) != decided(LEVERS[lever.base], size) for size in (16, 128))


def test_effects_are_paired_by_draw() -> None:
    rows = pd.DataFrame(
        [
            ("standing", "a", "t", 16, 100, 0.5, 10.0),
            ("standing", "a", "t", 16, 101, 0.7, 10.0),
            ("sharp", "old", "t", 16, 100, 0.0, 1.0),  # of settings that are no longer the lever's
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
