"""The memory experiment: peaks are this process's own, and the workers' shares add up to all cells."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from experiments.nasbench101_memory import peak_mib, prepare, score


def test_the_peak_remembers_what_was_given_back() -> None:
    before = peak_mib()
    block = np.ones(64 * 2**20 // 8 + int(max(before, 1)) * 2**20 // 8)  # more than any slack below an earlier peak
    assert peak_mib() > before + 32
    high = peak_mib()
    del block
    assert peak_mib() > high - 8  # the kernel counts in batches of pages


def test_shares_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Path(os.environ.get("NASRLM_DATA", "")) / "nasbench101.parquet"
    if not table.is_file():
        pytest.skip("needs the NAS-Bench-101 table; set NASRLM_DATA")
    seen: list[int] = []
    from surrogates.rlm import RLM

    monkeypatch.setattr(RLM, "predict", _counted(RLM.predict, seen))
    assert prepare(tmp_path / "cells.parquet", tmp_path / "checkpoint", 25) == 25
    found = [score((tmp_path / "cells.parquet", tmp_path / "checkpoint", worker, 2)) for worker in range(2)]
    assert seen == [13, 12]
    assert all(0 < part["before_mib"] <= part["quarter_mib"] <= part["peak_mib"] for part in found)
    assert all(part["seconds"] > 0 for part in found)


def _counted(predict, seen: list[int]):  # type: ignore[no-untyped-def]
    def counting(self, graphs, *arguments, **options):  # type: ignore[no-untyped-def]
        seen.append(len(graphs))
        return predict(self, graphs, *arguments, **options)

    return counting
