"""The experiment on coverage: what it writes, that it goes on where it was, and what it refuses."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments import calibration
from experiments.calibration import KEYS, planned
from nasrlm.bench.methods import find
from nasrlm.bench.protocol import Protocol
from search_spaces.errors import UsageError

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


def test_all_metrics_come_first() -> None:
    runs = planned("transnas_micro,mnasnet", "128,512", 2)
    assert len(runs) == 2 * 2 * 5
    assert [seed for *_, seed in runs] == [0] * 10 + [1] * 10
    assert [size for _, _, size, _ in runs[:10]] == [128] * 5 + [512] * 5
    with pytest.raises(UsageError, match="choose from nasbench201"):
        planned("imagenet", "128", 1)


@needs_tables
def test_coverage_is_measured_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "model.width": 16,
        "model.encoder_layers": 1,
        "model.decoder_layers": 1,
        "model.heads": ("producers", "all"),
        "model.feed_forward": 16,
        "training.epochs": 8,
        "training.batch_size": 16,
        "training.learning_rate": 1e-2,
        "training.smoothing": 0.4,
        "training.threads": 1,
    }
    monkeypatch.setattr(calibration, "FOLDER", tmp_path)
    monkeypatch.setattr(calibration, "core", lambda: [Protocol("nasbench_macro", ("cifar10_test",), test=150)])
    tiny = replace(find("rlm"), settings=small, sized=None, reads="networks")
    monkeypatch.setattr(calibration, "find", lambda name: tiny if name == "rlm" else find(name))
    out = tmp_path / "coverage.csv"
    for seeds in ("1", "2", "2"):
        monkeypatch.setattr(sys, "argv", ["calibration", "--sizes", "40", "--seeds", seeds, "--out", str(out)])
        calibration.main()
    rows = pd.read_csv(out)
    assert list(rows["seed"]) == [0, 1] and not rows.duplicated(KEYS).any()
    assert (rows["spread"] > 0).all() and (rows["spread"] != 1).all()
    for share in (50, 80, 90):
        before, after = rows[f"raw_coverage_{share}"], rows[f"coverage_{share}"]
        assert ((after - before) * (rows["spread"] - 1) >= 0).all()  # wider intervals hold more
    assert rows["coverage_80"].between(0.5, 1).all()
    monkeypatch.setattr(sys, "argv", ["calibration", "--method", "gcn", "--out", str(tmp_path / "gcn.csv")])
    with pytest.raises(UsageError, match="--method gcn"):
        calibration.main()
