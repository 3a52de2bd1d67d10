"""Trials of a method's settings: what a variant changes, and a log with one row for each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments import recipe_trials
from experiments.recipe_trials import FOLDER, KEYS, VARIANTS, changed
from nasrlm.bench.inputs import table_of
from nasrlm.bench.methods import find
from nasrlm.bench.protocol import Protocol

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


@needs_tables
@pytest.mark.parametrize(("method", "variant"), [(method, name) for method in VARIANTS for name in VARIANTS[method]])
def test_the_settings_of_a_variant_go_before_all_others(method: str, variant: str) -> None:
    table = table_of(Protocol("nasbench201", ("cifar10_test",), (16,), 1), FOLDER)
    settings = changed(find(method), VARIANTS[method][variant]).chosen(table, ("cifar10_test",), 16)
    assert VARIANTS[method][variant].items() <= settings.items()


@needs_tables
def test_a_trial_takes_the_place_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two variants of the fastest method, run again with another length of one of them, and on one draw more."""
    monkeypatch.setattr(recipe_trials, "CSV", tmp_path / "trials.csv")
    options = ["--method", "gcn", "--table", "nasbench201", "--labels", "16", "--test", "200"]
    for seeds, epochs in ("1", 2), ("1", 4), ("2", 4):
        variants = {"short": {"training.epochs": 1}, "longer": {"training.epochs": epochs}}
        monkeypatch.setitem(VARIANTS, "gcn", variants)
        monkeypatch.setattr(sys, "argv", ["recipe_trials", *options, "--seeds", seeds])
        recipe_trials.main()
    rows = pd.read_csv(tmp_path / "trials.csv")
    assert not rows.duplicated(KEYS).any()
    assert list(zip(rows["variant"], rows["seeds"], strict=True)) == [
        ("short", 1),
        ("longer", 1),
        ("short", 2),
        ("longer", 2),
    ]
    assert [json.loads(text)["training.epochs"] for text in rows["settings"]] == [1, 4, 1, 4]
    each = rows["each"].str.split()
    assert each.map(len).tolist() == rows["seeds"].tolist()
    assert [taus[0] for taus in each][:2] == [taus[0] for taus in each][2:]  # the same first draw
    assert rows["kendall_tau"].between(-1, 1).all()
    assert "'variant': 'longer'" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["recipe_trials", *options, "--variants", "short,tall"])
    with pytest.raises(SystemExit):
        recipe_trials.main()
    assert "--variants tall: choose from short, longer" in capsys.readouterr().err
