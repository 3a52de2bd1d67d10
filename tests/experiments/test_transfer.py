"""Real labels in pretraining: what becomes of them, and that a space that is left out is left out."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import fresh_graphs, pretrain, transfer
from experiments.fresh_graphs import StreamConfig, make_shard
from experiments.transfer import (
    ACCURACY,
    DEVICES,
    LATENCY,
    PROXIES,
    TARGETS,
    TASKS,
    LabelConfig,
    labelled_texts,
    labels_without,
    ranks_of,
)
from nasrlm.labels.tables import TableInfo, available, load_table
from nasrlm.metrics import spearman_rho
from search_spaces.errors import UsageError
from surrogates.rlm import RLM, ModelConfig
from surrogates.rlm.training import TrainingConfig
from surrogates.text import linearize, parse
from tests.surrogates.signature import signature

needs_tables = pytest.mark.skipif(not os.environ.get("NASRLM_DATA"), reason="NASRLM_DATA names no folder of tables")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts, graphs and states of the test's own, few and small."""
    monkeypatch.setattr(transfer, "STATE", tmp_path / "state")
    monkeypatch.setattr(pretrain, "FOLDER", tmp_path / "graphs")
    few = StreamConfig(("nasbench201", "nasbench_macro"), per_space=8, proxied=2)
    monkeypatch.setattr(transfer, "StreamConfig", partial(replace, few))
    return tmp_path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint on free targets."""
    shard = make_shard(StreamConfig(("nasbench201", "nasbench_macro"), per_space=8, proxied=2), 0, held_out=False)
    model = ModelConfig(width=16, encoder_layers=1, decoder_layers=1, feed_forward=16, heads=("producers", "all"))
    targets = [name for name in (*fresh_graphs.COUNTS, "synflow") if shard[name].notna().any()]
    rlm = RLM(model, TrainingConfig(seed=1)).initialise(shard["text"].tolist(), shard[targets])
    rlm.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@needs_tables
@pytest.mark.parametrize("info", available(), ids=lambda info: info.name)
def test_labels_become_ranks(info: TableInfo) -> None:
    table = load_table(info.name)
    ranks = ranks_of(table)
    assert list(ranks) == [*TARGETS, *PROXIES] and len(ranks) == len(table)
    known = ranks.notna()
    assert known.any().any()
    assert ranks[known].min().min() > 0 and ranks[known].max().max() < 1
    for name in table.metrics:
        if name in PROXIES:
            both = pd.DataFrame({"value": table.frame[name], "rank": ranks[name]}).dropna()
            assert spearman_rho(both["value"], both["rank"]) > 0.9999
        if name.startswith("zcp_") or name in ("params", "macs"):
            continue
        rows = table.frame[name].notna() & known[LATENCY if name.endswith(("_ms", "_ips")) else ACCURACY]
        if name in (*DEVICES, *TASKS):
            assert spearman_rho(table.frame[name][known[name]], ranks[name][known[name]]) > 0.9999
        if name.endswith("_latency_ms"):
            assert spearman_rho(table.frame[name][rows], ranks[LATENCY][rows]) > 0
        elif name.endswith("_throughput_ips"):
            assert spearman_rho(table.frame[name][rows], ranks[LATENCY][rows]) < 0
        elif name.endswith(("_test", "_valid")) and "ep12" not in name:
            assert spearman_rho(table.frame[name][rows], ranks[ACCURACY][rows]) > 0.3


@needs_tables
def test_labelled_texts_can_hold_every_function(state: Path) -> None:
    short, long = (labelled_texts("fbnet", LabelConfig(rows=6, functions=some)) for some in ("repeated", "all"))
    pd.testing.assert_frame_equal(short.drop(columns="text"), long.drop(columns="text"))
    for few, many in zip(short["text"], long["text"], strict=True):
        assert signature(parse(few), commutative=True) == signature(parse(many), commutative=True)
        assert few.count("def") < many.count("def")


@needs_tables
def test_texts_of_other_labels_are_not_taken_for_these(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = labelled_texts("nasbench_macro", LabelConfig(rows=6))
    monkeypatch.setattr(transfer, "ranks_of", lambda table: 1 - ranks_of(table))
    after = labelled_texts("nasbench_macro", LabelConfig(rows=6))
    assert after["text"].equals(before["text"])
    np.testing.assert_allclose(after[ACCURACY], 1 - before[ACCURACY])


@needs_tables
def test_texts_carry_the_labels_of_their_networks(state: Path) -> None:
    table = load_table("nasbench_macro")
    frame = labelled_texts("nasbench_macro", LabelConfig(rows=60))
    assert len(frame) == 60 and set(frame["space"]) == {"nasbench_macro"}
    pd.testing.assert_frame_equal(frame, labelled_texts("nasbench_macro", LabelConfig(rows=60)))  # from disk
    few = labelled_texts("nasbench_macro", LabelConfig(rows=60, characters=20_000))
    lengths = few["text"].str.len()
    assert lengths.sum() >= 20_000 > lengths[:-1].sum()  # the last network reaches the limit
    pd.testing.assert_frame_equal(few, frame[: len(few)])
    own = {linearize(table.space.to_onnx(arch)): row for row, arch in enumerate(table.architectures[:1500])}
    rows = [(own[text], row) for row, text in enumerate(frame["text"]) if text in own]
    ranks = ranks_of(table)
    assert rows
    for at, row in rows:
        assert frame[ACCURACY][row] == ranks[ACCURACY].iloc[at]


@needs_tables
def test_live_parts_do_not_know_the_devices(state: Path) -> None:
    """A network with dead operations is read whole and live; only the whole one has the latencies."""
    frame = labelled_texts("nasbench201", LabelConfig(rows=40))
    assert 60 < len(frame) < 80 and frame[ACCURACY].notna().all()
    parts = frame[frame[LATENCY].isna()]
    assert len(parts) == len(frame) - 40 and parts[list(DEVICES)].isna().all().all()
    assert frame.drop(parts.index)[list(DEVICES)].notna().all().all()
    for text in parts["text"]:
        assert linearize(parse(text), live=True) == linearize(parse(text))
    dead = [
        text for text in frame.drop(parts.index)["text"] if linearize(parse(text), live=True) != linearize(parse(text))
    ]
    assert len(dead) == len(parts)


def test_proxies_are_all_that_is_known_of_a_space_that_is_left_out() -> None:
    known = pd.DataFrame({"space": ["a", "a", "b"], "text": ["x", "y", "z"]})
    labels = known.reindex(columns=[*known, *TARGETS, *PROXIES])
    labels[ACCURACY], labels["zcp_nwot"] = [0.1, 0.2, 0.3], [0.4, np.nan, np.nan]
    left = labels_without(labels, ["a"])
    assert left["text"].tolist() == ["x", "z"]  # y has no proxy
    assert left[ACCURACY].isna().tolist() == [True, False] and left["zcp_nwot"].tolist()[0] == 0.4
    assert labels[ACCURACY].notna().all()  # the next space left out starts from all again


@needs_tables
def test_a_space_that_is_left_out_is_left_out(
    state: Path, start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    infos = [info for info in available() if info.name in ("nasbench_macro", "ofa_mobilenetv3", "fbnet")]
    if len(infos) < 3:
        pytest.skip("not all of the three tables are there")
    monkeypatch.setattr(transfer, "available", lambda: infos)
    seen: dict[str, pd.DataFrame] = {}
    real = transfer.transfer

    def watched(start, labels, free, training, *, state):  # type: ignore[no-untyped-def]
        seen[state.name] = labels
        return real(start, labels, free, training, state=state)

    monkeypatch.setattr(transfer, "transfer", watched)
    argv = ["transfer", "--start", str(start), "--rows", "12", "--shards", "1", "--epochs", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", [*argv, "--without", "nasbench_macro", "--out", str(state / "out")])
    transfer.main()
    (labels,) = seen.values()
    assert set(labels["space"]) == {"ofa_mobilenetv3", "fbnet"} and len(labels) == 24
    folder = state / "out" / "rlm-small-without-nasbench_macro"
    before, after = RLM.from_pretrained(start), RLM.from_pretrained(folder)
    assert after.metrics[: len(before.metrics)] == before.metrics  # nothing free is forgotten, nor rescaled
    assert after.scales[: len(before.scales)] == before.scales
    assert {ACCURACY, LATENCY, "pixel3_latency_ms"} <= set(after.metrics)
    predicted = after.predict(labels["text"].tolist()[:3], [ACCURACY]).mean
    assert np.isfinite(predicted).all() and (predicted > 0).all() and (predicted < 1).all()
    text = (folder / "README.md").read_text()
    assert (
        "never saw a label of a network of **nasbench_macro**" in text
        and "24 texts of labelled networks of fbnet" in text
    )

    transfer.main()  # what is there stays
    assert "is there already" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", [*argv, "--without", "nasbench_macro+fbnet", "--out", str(state / "out")])
    transfer.main()
    text = (state / "out" / "rlm-small-without-nasbench_macro-fbnet" / "README.md").read_text()
    assert "**nasbench_macro, fbnet**" in text and "networks of ofa_mobilenetv3" in text
    monkeypatch.setattr(sys, "argv", [*argv, "--without", "nasbench", "--out", str(state / "out")])
    with pytest.raises(UsageError, match="nasbench: there are labels of fbnet, nasbench_macro, ofa_mobilenetv3"):
        transfer.main()
