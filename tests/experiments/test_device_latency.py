"""Latency of devices left out: which columns are one device, and that its labels stay out of what is learned first."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import device_latency
from experiments.device_latency import KEYS, PUBLISHED, SUFFIX, TABLES, chosen, family, page, summary
from search_spaces import registry
from search_spaces.errors import UsageError
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, ModelConfig
from surrogates.rlm.training import TrainingConfig

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


def test_batch_sizes_of_a_gpu_are_one_device_and_numbers_of_a_cpu_are_not() -> None:
    assert family("titan_rtx_256") == family("titan_rtx_1") == "titan_rtx"
    assert family("titanxp_32") == "titanxp" and family("titanx_32") == "titanx"
    assert family("gold_6226") == "gold_6226" and family("gold_6240") == "gold_6240"
    assert family("essential_ph_1") == "essential_ph_1"
    for table, columns in TABLES.items():
        assert len(columns) == 27 and len(chosen(table, "")) == 17
    with pytest.raises(UsageError, match=r"iphone: choose from .*pixel2"):
        chosen("fbnet", "iphone")
    with pytest.raises(UsageError, match="choose from nasbench201, fbnet"):
        chosen("darts", "")


@needs_tables
def test_a_device_left_out_is_learned_from_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space, rng = registry.get("nasbench201"), np.random.default_rng(0)
    models = [space.to_onnx(space.sample(rng)) for _ in range(30)]
    heads = "producers", "all"
    model = ModelConfig(
        width=16, encoder_layers=1, decoder_layers=1, feed_forward=16, heads=heads, encoder="lines", ways=True
    )
    start = RLM(model, TrainingConfig(epochs=1, threads=1))
    start.fit(models, free_targets(models)[["log_macs", "live_depth"]]).save_pretrained(tmp_path / "start")
    small = {"FREE": str(tmp_path / "start"), "MODELS": tmp_path / "models", "KNOWN": 40, "TEST": 60, "CANDIDATES": 30}
    for name, value in small.items():
        monkeypatch.setattr(device_latency, name, value)
    out = tmp_path / "scores.csv"
    options = ["--tables", "nasbench201", "--devices", "titan_rtx", "--steps", "10", "--out", str(out)]
    for draws in ("1", "2", "2"):  # goes on where it was
        monkeypatch.setattr(sys, "argv", ["device_latency", *options, "--draws", draws])
        device_latency.main()
    [folder] = (tmp_path / "models").iterdir()
    others = RLM.from_pretrained(folder).metrics
    assert len(others) == 24 and not any(name.startswith("titan_rtx") for name in others)
    rows = pd.read_csv(out)
    assert not rows.duplicated(KEYS).any()
    assert set(rows["column"]) == {f"titan_rtx_{batch}{SUFFIX}" for batch in (1, 32, 256)}
    assert set(rows["method"]) == {"rlm", "nearest", "macs", "params"} and set(rows["draw"]) == {0, 1}
    assert rows["spearman_rho"].between(-1, 1).all()
    assert rows[rows["method"] == "macs"]["spearman_rho"].min() > 0.5  # more work takes longer
    assert set(rows["nearest"]) <= set(others)
    assert "spearman_rho" in capsys.readouterr().out
    assert set(rows["choice"]) == {"random", "far_apart"}
    found = summary(rows).set_index(["choice", "method"]).loc[("random", "macs")]
    assert "| titan_rtx | " in out.with_suffix(".md").read_text()
    assert found["devices"] == 1 and found["lowest"].startswith("titan_rtx ")


def test_batch_sizes_are_averaged_before_devices() -> None:
    columns = ["titanx_1", "titanx_32", "titanx_256", "fpga"]
    rows = pd.DataFrame(
        [
            ("t", f"{column}{SUFFIX}", choice, draw, method, rho + 0.1 * draw)
            for column, rho in zip(columns, (0.5, 0.6, 0.7, 0.2), strict=True)
            for choice in ("random", "far_apart")
            for draw in (0, 1)
            for method in ("rlm", "nearest", "macs")
        ],
        columns=["table", "column", "choice", "draw", "method", "spearman_rho"],
    )
    found = summary(rows).set_index(["choice", "method"]).loc[("random", "rlm")]
    assert found["spearman_rho"] == pytest.approx((0.6 + 0.2) / 2 + 0.05) and found["lowest"] == "fpga 0.250"
    written = page(rows)
    assert "| fpga | 0.250 | 0.250 | 0.250 | 0.250 | 0.250 |" in written and "| titanx | 0.650 |" in written
    assert "| mean of the devices | 0.450 ± 0.635 |" in written  # t of one degree of freedom
    assert "| mean of all batch sizes, each a device | 0.550 ± 0.635 |" in written and "HELP" not in written
    six = pd.concat([rows.iloc[:12].assign(table="nasbench201", column=column) for column in PUBLISHED])
    assert "| mean of the six that HELP publishes | 0.550 ± 0.635 |" in page(six)
