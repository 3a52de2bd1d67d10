"""The worked example of docs/benchmark.md runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from nasrlm.cli import main
from search_spaces.analysis import count_macs

PAGE = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")


def test_the_own_surrogate_is_benchmarked_on_the_own_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("node_count.py").write_text(code, encoding="utf-8")
    [entry] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry.replace("project.entry-points.", "").replace('"', ""))
    monkeypatch.syspath_prepend(tmp_path)
    [rows] = re.findall(r"```\n(arch,board_latency_ms\n.*?)```", PAGE, re.DOTALL)
    space = search_spaces.get("nasbench_macro")
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(110)]
    lines = [f"{space.format(net)},{count_macs(space.to_onnx(net)) / 1e6}\n" for net in nets]
    Path("mine.csv").write_text(rows + "".join(lines), encoding="utf-8")
    [command] = re.findall(r"```\nnasrlm (bench nasbench_macro.*?)```", PAGE, re.DOTALL)
    assert main([*shlex.split(command.replace("\\\n", " ")), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert not said["failed"] and not said["left_out"]
    taus = {row["method"]: row["kendall_tau"] for row in said["rows"] if row["n_labels"] == 64}
    assert set(taus) == {"node_count", "flops", "xgboost_genome"}
    assert Path("runs/mine/summary.md").is_file()
