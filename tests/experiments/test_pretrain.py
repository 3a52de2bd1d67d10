"""Pretraining on free targets: what it streams, and that a killed run ends like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from typer.testing import CliRunner

import search_spaces
from experiments.fresh_graphs import GraphStream, StreamConfig, is_held_out, learn_ranks, make_shard, read_shard
from experiments.pretrain import MODELS, TRAINING, functions_of, judge, pretrain
from nasrlm.cli.app import app
from search_spaces.errors import UsageError
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM
from surrogates.text import linearize, parse
from tests.surrogates.signature import signature

ROOT = Path(__file__).parents[2]
SPACES = ("nasbench201", "nasbench_macro")
SMALL = StreamConfig(SPACES, per_space=6, proxied=2)

_RUN = """
import os, signal, sys
from dataclasses import replace
from experiments import pretrain as command
from experiments.fresh_graphs import StreamConfig
from surrogates.rlm import ModelConfig
from surrogates.rlm.checkpointing import StateFile

workers, out, kill_after = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
save, saved = StateFile.save_if_due, []

def save_and_die(self, run):
    save(self, run)
    saved.append(run.course.step)
    if len(saved) == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)

StateFile.save_if_due = save_and_die
if __name__ == "__main__":
    heads = ("producers", "all")
    command.MODELS["small"] = ModelConfig(
        width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=heads, encoder="lines"
    )
    training = replace(command.TRAINING, batch_size=16, checkpoint_minutes=0.0, threads=1)
    stream = StreamConfig(("nasbench201", "nasbench_macro"), per_space=20, functions="all", proxied=5)
    for minutes, name in (1e-9, "-paused"), (0.0, ""):
        if minutes and kill_after >= 0:
            continue
        rlm, course = command.pretrain(
            "small", stream, training, graphs=80, passes=3, minutes=minutes, workers=workers, progress=False
        )
        assert course.total == 30
        assert course.step == (10 if minutes else 30)
        rlm.save_pretrained(out + name)
"""


def test_shards_depend_on_settings_and_number_alone() -> None:
    shard = make_shard(SMALL, 3, held_out=False)
    pd.testing.assert_frame_equal(shard, make_shard(SMALL, 3, held_out=False))
    assert shard["space"].value_counts().to_dict() == dict.fromkeys(SPACES, 12)
    others = [make_shard(SMALL, 4, held_out=False), make_shard(replace(SMALL, seed=1), 3, held_out=False)]
    assert all(set(other["text"]) != set(shard["text"]) for other in others)
    alone = make_shard(replace(SMALL, spaces=SPACES[1:]), 3, held_out=False)
    assert alone["text"].tolist() == shard[shard["space"] == SPACES[1]]["text"].tolist()


def test_targets_of_a_shard_are_those_of_its_texts() -> None:
    """Whatever the order of lines, the text's network has the targets beside it."""
    shard = make_shard(replace(SMALL, own_order=0.0), 0, held_out=False)
    models = [parse(text) for text in shard["text"]]
    own = make_shard(replace(SMALL, own_order=1.0), 0, held_out=False)
    assert any(linearize(model) != text for model, text in zip(models, shard["text"], strict=True))
    for model, text in zip(models, own["text"], strict=True):
        assert signature(model, commutative=True) == signature(parse(text), commutative=True)
    # a parsed network is one body: leaf functions are looked into, so only sums over operators are the same
    sums = ["log_macs", "live_convs", "live_pointwise_convs", "live_pools", "live_skips"]
    np.testing.assert_allclose(free_targets(models)[sums], shard[sums])


def test_ranks_are_within_the_space(tmp_path: Path) -> None:
    ranks = learn_ranks(SMALL, tmp_path)
    frame = pd.concat([read_shard(SMALL, tmp_path, index) for index in range(8)], ignore_index=True)
    found = ranks(frame)
    for space, group in frame.groupby("space"):
        values, within = group["log_macs"], found.loc[group.index, "log_macs"]
        assert abs(within.mean() - 0.5) < 0.05 and within.between(0, 1).all()  # whatever the space's sizes
        assert scipy.stats.spearmanr(values, within).statistic > 0.99
        known = group["synflow"].notna()
        assert known.sum() == 32 and (found.loc[group.index, "synflow"].notna() == known).all(), space


def test_held_out_networks_are_never_trained_on() -> None:
    config = StreamConfig(("nasbench201",), per_space=40, held_out=8)
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    drawn = [is_held_out(space, space.sample(rng), config) for _ in range(400)]
    assert 0.03 < np.mean(drawn) < 0.3
    trained, held = (make_shard(replace(config, own_order=1.0), 0, held_out=side) for side in (False, True))
    assert not set(trained["text"]) & set(held["text"])


def test_the_name_of_a_stream_is_that_of_its_settings() -> None:
    threads = torch.get_num_threads()
    try:
        names = []
        for count in 1, 2:
            torch.set_num_threads(count)  # the last digits of proxies depend on it
            names.append(SMALL.key())
        assert names[0] == names[1]
    finally:
        torch.set_num_threads(threads)
    others = [replace(SMALL, seed=1), replace(SMALL, proxied=3), replace(SMALL, proxies=("synflow",))]
    assert len({names[0], *(other.key() for other in others)}) == 4


def test_models_of_lines_read_every_function() -> None:
    config = StreamConfig(("fbnet",), per_space=3, proxied=0, own_order=1.0)
    inlined, whole = (replace(config, functions=functions_of(size)) for size in ("tokens", "small"))
    short, long = (make_shard(some, 0, held_out=False) for some in (inlined, whole))
    pd.testing.assert_frame_equal(short.drop(columns="text"), long.drop(columns="text"))
    for few, many in zip(short["text"], long["text"], strict=True):
        assert signature(parse(few)) == signature(parse(many))
        assert few.count("def") < many.count("def")
    assert whole.key() != inlined.key() == config.key()


def test_kept_shards_are_read_back(tmp_path: Path) -> None:
    shard = read_shard(SMALL, tmp_path, 1)
    (path,) = tmp_path.iterdir()
    changed = shard.assign(live_depth=7.0)
    changed.to_parquet(path)
    pd.testing.assert_frame_equal(read_shard(SMALL, tmp_path, 1), changed)


@pytest.mark.parametrize("size", ["tokens", "small"])
def test_a_further_pass_reads_nothing_again(size: str, tmp_path: Path) -> None:
    ranks, model = learn_ranks(SMALL, tmp_path, 2), MODELS[size]
    shard = read_shard(SMALL, tmp_path, 0)
    RLM(model, vocabulary=300).initialise(shard["text"].tolist(), ranks(shard)).save_pretrained(tmp_path / "start")
    made = partial(GraphStream, SMALL, tmp_path, ranks=ranks, model=model, start=tmp_path / "start")
    with made(count=2, workers=0) as stream:
        first = [stream(0), stream(1)]
        for path in tmp_path.glob("*.parquet"):
            path.unlink()
        assert stream(2) is first[0] and stream(3) is first[1]
        assert not list(tmp_path.glob("*.parquet"))
    assert len(first[0].graphs) == len(first[0].targets) == SMALL.shard == 2 * SMALL.networks


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="name each space once"):
        StreamConfig(("nasbench201", "nasbench201"))
    with pytest.raises(UsageError, match="held_out is 1"):
        StreamConfig(held_out=1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``whole``, a run without interruption; ``script.py`` makes more."""
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "script.py").write_text(_RUN)
    run(folder, "a", 0, "whole", 0)
    return folder


def run(folder: Path, place: str, workers: int, out: str, kill_after: int) -> int:
    """Run the script in the working folder ``place``; its exit status."""
    (folder / place).mkdir(exist_ok=True)
    command = [sys.executable, str(folder / "script.py"), str(workers), str(folder / out), str(kill_after)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder / place, env=environment, check=False).returncode


def test_a_killed_run_ends_in_the_same_weights(pretrained: Path) -> None:
    """Killed for good in the middle of the second pass, paused at that step, and generating in another process."""
    assert run(pretrained, "b", 1, "none", 11) == -signal.SIGKILL
    (state,) = (pretrained / "b").glob("runs/pretrain/*/training.pt")
    assert torch.load(state, weights_only=True)["step"] == 10
    assert run(pretrained, "b", 1, "resumed", -1) == 0
    whole, resumed, paused = (RLM.from_pretrained(pretrained / name) for name in ("whole", "resumed", "resumed-paused"))
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    assert any(not torch.equal(paused.network.state_dict()[k], v) for k, v in whole.network.state_dict().items())
    assert whole.metrics == resumed.metrics
    assert {"live_depth", "log_macs", "synflow", "nwot"} <= set(whole.metrics)


def test_pretraining_goes_on_from_a_checkpoint(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin = RLM.from_pretrained(pretrained / "whole")
    monkeypatch.setitem(MODELS, "small", begin.model)
    stream = StreamConfig(SPACES, per_space=20, proxied=5, seed=1)
    training = replace(TRAINING, batch_size=16, threads=1)
    courses = {
        start: pretrain("small", stream, training, graphs=40, workers=0, progress=False, begin=start)[1]
        for start in ("", pretrained / "whole")
    }
    assert [course.step for course in courses.values()] == [5, 5]
    assert courses[pretrained / "whole"].loss < courses[""].loss
    starts = [RLM.from_pretrained(path) for path in tmp_path.glob("runs/pretrain/small-*/start")]
    assert len(starts) == 2  # states of their own
    (same,) = (
        rlm
        for rlm in starts
        if all(torch.equal(a, b) for a, b in zip(rlm.network.parameters(), begin.network.parameters(), strict=True))
    )
    assert same.metrics == begin.metrics


def test_a_checkpoint_of_another_kind_is_no_beginning(pretrained: Path) -> None:
    with pytest.raises(UsageError, match=r"is not of --size small: ModelConfig\(width=20"):
        pretrain("small", SMALL, TRAINING, graphs=12, begin=pretrained / "whole")
    with pytest.raises(UsageError, match="--begin rlm-free knows"):
        pretrain("small", replace(SMALL, proxies=()), TRAINING, graphs=12, begin="rlm-free")


def test_scores_of_a_pretrained_model(pretrained: Path, tmp_path: Path) -> None:
    rlm = RLM.from_pretrained(pretrained / "whole")
    config = replace(SMALL, per_space=12, proxied=4)
    frame = make_shard(config, 0, held_out=True)
    ranks = learn_ranks(config, tmp_path)(frame)
    scores = judge(rlm, frame[["space", "text"]].join(ranks)).set_index(["space", "target"])
    (begin,) = (pretrained / "a").glob("runs/pretrain/*/start")
    untrained = judge(RLM.from_pretrained(begin), frame[["space", "text"]].join(ranks))
    assert 0 < scores["loss"].mean() < untrained["loss"].mean()
    for space, group in ranks.groupby(frame["space"]):
        for target in rlm.metrics:
            assert ((space, target) in scores.index) == (len(set(group[target].dropna())) > 1)
    assert (
        scores.loc[("nasbench201", "synflow"), "networks"],
        scores.loc[("nasbench201", "log_macs"), "networks"],
    ) == (8, 24)


def test_it_can_be_finetuned_by_the_command(pretrained: Path, tmp_path: Path) -> None:
    space, rng = search_spaces.get("nasbench_macro"), np.random.default_rng(1)
    archs = list({space.sample(rng) for _ in range(40)})
    labels = free_targets([space.to_onnx(arch) for arch in archs])["log_macs"]
    pd.DataFrame({"arch": [space.format(arch) for arch in archs], "cifar10_test": labels}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    arguments = ["finetune", str(pretrained / "whole"), "nasbench_macro", "--metrics", "cifar10_test"]
    options = ["--labels", str(tmp_path / "labels.csv"), "--size", "24", "--json"]
    options += ["--option", "epochs=3", "--option", "pool=40"]
    result = CliRunner().invoke(app, [*arguments, *options, "--out", str(tmp_path / "tuned")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["labels"] == 24
    tuned = RLM.from_pretrained(tmp_path / "tuned")
    assert tuned.metrics == ("cifar10_test",)
