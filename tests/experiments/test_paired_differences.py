"""Paired differences of runs whose scores are known."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments import paired_differences
from search_spaces.errors import UsageError


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Draws are easy or hard for both methods alike; ``good`` leads by .1 with 16 labels, ``bad`` has one more draw."""
    rows = []
    for seed, ease in enumerate((0.2, 0.5, 0.8)):
        for size, lead in ((16, 0.1), (128, -0.2)):
            for method, tau in (("good", ease + lead), ("bad", ease)):
                rows.append(
                    {"table": "t", "metric": "m", "n_labels": size, "seed": seed, "method": method, "kendall_tau": tau}
                )
    for seed, method in (3, "bad"), (4, "alone"):
        rows.append({"table": "t", "metric": "m", "n_labels": 16, "seed": seed, "method": method, "kendall_tau": 9.0})
    frame = pd.DataFrame(rows).assign(spearman_rho=lambda table: table["kendall_tau"] / 2)
    frame.to_parquet(tmp_path / "kendall_tau_joint.parquet")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, pairs: str) -> pd.DataFrame:
    out = folder / "pairs.csv"
    words = ["paired_differences", "--pairs", pairs, "--runs", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    paired_differences.main()
    return pd.read_csv(out)


def test_what_draws_have_in_common_drops_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(monkeypatch, runs, "joint:good:bad,joint:bad:good")
    assert list(rows["method"]) == ["good", "good", "bad", "bad"]
    assert list(rows["draws"]) == [3] * 4  # the fourth draw has no partner
    assert list(rows["tau"]) == pytest.approx([0.1, -0.2, -0.1, 0.2])
    assert list(rows["rho"]) == pytest.approx([0.05, -0.1, -0.05, 0.1])
    assert rows["tau_half"].abs().max() < 1e-6  # draws differ by .3, the pairs by nothing
    shown = capsys.readouterr().out
    assert "joint good bad 16 labels: tau +0.100 over 1 metrics, 1 ahead, 0 behind" in shown
    assert "joint good bad 128 labels: tau -0.200 over 1 metrics, 0 ahead, 1 behind" in shown


@pytest.mark.parametrize("pairs", ["joint:good", "core:good:bad", "joint:good:better", "joint:good:alone"])
def test_a_pair_that_cannot_be_compared_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch, pairs: str) -> None:
    with pytest.raises(UsageError, match=f"--pairs {pairs}"):
        run(monkeypatch, runs, pairs)
