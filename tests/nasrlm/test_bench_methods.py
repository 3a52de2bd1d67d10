"""What takes part in the benchmark: settings, checkpoints, and what each method reads."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import search_spaces
from nasrlm.bench import methods, runs
from nasrlm.bench.inputs import graphs, open_table
from nasrlm.bench.methods import Method, configure, find
from nasrlm.bench.pretrained import QUALITY_WEIGHT, judged_from, like_of, saw_labels_of, weights_among
from nasrlm.bench.protocol import Protocol
from search_spaces.errors import UnknownNameError
from surrogates import registry
from surrogates.gaussian_process import LEAST_NOISE
from surrogates.rlm import RLM
from surrogates.rlm.few_shot import FineTunedRLM
from surrogates.text import linearize


@pytest.mark.parametrize(
    ("space", "start", "chosen"),
    [
        ("nasbench201", "rlm-small", "rlm-small-without-nasbench201"),
        ("nasbench201", "rlm-free", "rlm-free"),
        ("hiaml", "rlm-small", "rlm-small"),  # nobody's labels of that space were ever learned
        ("darts", "rlm-small", "rlm-free"),  # rlm-small learned labels of this one
        ("fbnet", "rlm-small", "rlm-small-without-enas-fbnet"),  # two were left out at once
        ("darts", "other", "other"),
    ],
)
def test_no_method_starts_from_labels_of_the_space_it_is_judged_on(
    space: str, start: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["rlm-small", "rlm-free", "rlm-small-without-nasbench201", "rlm-small-without-enas-fbnet"]
    monkeypatch.setattr(methods.registry, "checkpoints", lambda: names)
    table = SimpleNamespace(space=SimpleNamespace(name=space))
    assert Method("m", "rlm", start=start).start_for(table) == chosen  # type: ignore[arg-type]


def test_settings_and_seeds_reach_the_configs() -> None:
    surrogate = registry.create("gcn")
    configure(surrogate, {"model.width": 32, "training.epochs": 3}, seed=7)
    assert (surrogate.model.width, surrogate.training.epochs, surrogate.training.seed) == (32, 3, 7)
    with pytest.raises(UnknownNameError, match=r"model\.width"):
        configure(surrogate, {"model.widht": 32}, seed=7)
    with pytest.raises(UnknownNameError, match="value_scale"):
        configure(surrogate, {"value_scale": "raw"}, seed=7)
    written = registry.create("rlm")
    configure(written, {"value_scale": "raw"}, seed=7)
    assert isinstance(written, RLM) and written.value_scale == "raw"


@pytest.mark.parametrize("name", sorted(methods.METHODS | methods.EXTRA))
def test_every_method_can_be_made(name: str, own_file: Path) -> None:
    table = open_table("mine", str(own_file), "nasbench_macro", ("board_latency_ms",), own_file.parent)
    for size in (16, 1024):
        method = find(name)
        made = method.create(table, ["board_latency_ms"], size, 3)
        configs = {key: value for key, value in vars(made).items() if is_dataclass(value)}
        for setting, value in method.chosen(table, ["board_latency_ms"], size).items():
            config, _, field = setting.partition(".")
            assert getattr(configs[config], field) == value
        assert {config.seed for config in configs.values() if hasattr(config, "seed")} <= {3}


@pytest.mark.parametrize("name", ["flan", "rlm", "rlm_scratch"])
def test_only_what_dead_operations_touch_sees_them(name: str, own_file: Path) -> None:
    table = open_table("mine", str(own_file), "nasbench_macro", ("board_latency_ms",), own_file.parent)
    asked = (("cifar10_test",), ("board_latency_ms",), ("cifar10_test", "board_latency_ms"), ("params",))
    read = [find(name).create(table, metrics, 16, 3).reading.dead for metrics in asked]  # type: ignore[attr-defined]
    assert read == ["drop", "keep", "keep", "keep"]


@pytest.mark.parametrize("name", ["gp", "gp_zcp", "rlm"])
def test_processes_read_operations_at_their_shapes_where_labels_can_tell(name: str, own_file: Path) -> None:
    table = open_table("mine", str(own_file), "nasbench_macro", ("board_latency_ms",), own_file.parent)
    made = [find(name).create(table, ["board_latency_ms"], size, 3) for size in (63, 64, 255)]
    configs = [surrogate.teaching if isinstance(surrogate, FineTunedRLM) else surrogate.training for surrogate in made]  # type: ignore[attr-defined]
    assert [config.shaped for config in configs] == [False, True, True]
    assert [config.least_noise for config in configs] == [LEAST_NOISE, 0.001, 0.001]


@pytest.mark.parametrize(
    ("metrics", "size", "heavy"),
    [
        (("cifar10_test", "pixel3_latency_ms", "params"), 512, ("cifar10_test",)),
        (("cifar10_test", "pixel3_latency_ms"), 128, ()),  # few labels: what it would gain the latency would lose
        (("cifar10_test", "cifar100_test"), 512, ()),
        (("pixel3_latency_ms", "params"), 512, ()),
    ],
)
def test_accuracy_is_not_drowned_by_latencies(metrics: tuple[str, ...], size: int, heavy: tuple[str, ...]) -> None:
    wanted = {"start.weights": dict.fromkeys(heavy, QUALITY_WEIGHT)} if heavy else {}
    assert weights_among(metrics, size) == wanted


def test_weights_are_part_of_what_a_run_is(own_file: Path) -> None:
    metrics = ("cifar10_test", "board_latency_ms")
    table = open_table("mine", str(own_file), "nasbench_macro", metrics[1:], own_file.parent)
    joint, scratch = find("rlm_joint"), find("rlm_scratch")
    assert joint.identity(table, metrics, 512)["start.weights"] == {"cifar10_test": QUALITY_WEIGHT}
    for method, asked, size in (joint, metrics, 128), (joint, metrics[1:], 512), (scratch, metrics, 512):
        assert "start.weights" not in method.identity(table, asked, size)


@pytest.mark.parametrize(("size", "ranking"), [(63, 0.0), (64, 3.0), (255, 3.0), (1000, None)])
def test_one_model_of_all_ranks_fresh_networks_no_more_than_labels(
    size: int, ranking: float | None, own_file: Path
) -> None:
    metrics = ("cifar10_test", "board_latency_ms")
    table = open_table("mine", str(own_file), "nasbench_macro", metrics[1:], own_file.parent)
    chosen = find("rlm_joint").identity(table, metrics, size)
    assert (chosen["training.ranking"], chosen.get("teaching.pool_ranking")) == (3.0, ranking)


def test_a_new_metric_is_like_what_its_name_says() -> None:
    known = ["log_macs", "accuracy", "latency"]
    likes = {
        ("cifar10_test",): "accuracy",
        ("cifar10_test", "jigsaw_test"): "accuracy",
        ("pixel3_latency_ms",): "latency",
        ("eyeriss_energy_mj",): "best",
        ("a100_throughput_ips",): "best",
        ("params",): "best",
        ("cifar10_test", "pixel3_latency_ms"): {"cifar10_test": "accuracy", "pixel3_latency_ms": "latency"},
        ("cifar10_test", "params"): {"cifar10_test": "accuracy", "params": "best"},
    }
    assert {metrics: like_of(metrics, known) for metrics in likes} == likes
    assert like_of(["cifar10_test"], ["log_macs"]) == "best"  # a checkpoint that knows no label


@pytest.mark.parametrize(
    ("checkpoint", "space", "judged"),
    [
        ("rlm-small", "fbnet", "rlm-small-without-fbnet"),
        ("somewhere/rlm-small", "fbnet", "rlm-small-without-fbnet"),
        ("rlm-small-without-darts", "fbnet", "rlm-small-without-fbnet"),
        ("rlm-small", "ofa_mobilenetv3", "rlm-free"),  # not among those below
        ("rlm-small-without-fbnet", "fbnet", ""),
        ("rlm-free", "fbnet", ""),
        ("nasbench201", "fbnet", ""),
        ("nasbench201", "nasbench201", "rlm-free"),
        ("rlm-small", "hiaml", ""),  # nobody labelled it
        ("runs/mine", "fbnet", ""),
    ],
)
def test_a_start_is_not_judged_on_labels_that_it_saw(checkpoint: str, space: str, judged: str) -> None:
    shipped = ["nasbench201", "rlm-free", "rlm-small", "rlm-small-without-darts", "rlm-small-without-fbnet"]
    assert saw_labels_of(checkpoint, space) == bool(judged)
    assert judged_from(checkpoint, space, shipped) == (judged or checkpoint)


def test_texts_are_those_that_the_method_learns_from(own_file: Path, tmp_path: Path) -> None:
    """Kept texts of live parts and of whole networks do not get mixed up."""
    space = search_spaces.get("nasbench201")
    dead = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|")
    frame = pd.DataFrame({"arch": [space.format(dead)], "toy_test": [1.0], "board_latency_ms": [2.0]})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    table = open_table("mine", str(tmp_path / "mine.csv"), "nasbench201", ("toy_test", "board_latency_ms"), tmp_path)
    method, rows, model = find("rlm_tokens"), np.array([0]), space.to_onnx(dead)
    for metric, live in ("toy_test", True), ("board_latency_ms", False):
        assert graphs(table, method, [metric], rows, tmp_path) == [linearize(model, live=live)]
    assert linearize(model, live=True) != linearize(model)


def test_texts_with_all_functions_are_kept_apart(tmp_path: Path) -> None:
    space = search_spaces.get("fbnet")
    arch = space.sample(np.random.default_rng(0))
    pd.DataFrame({"arch": [space.format(arch)], "board_latency_ms": [1.0]}).to_csv(tmp_path / "mine.csv", index=False)
    table = open_table("mine", str(tmp_path / "mine.csv"), "fbnet", ("board_latency_ms",), tmp_path)
    method, rows, model = find("rlm_tokens"), np.array([0]), space.to_onnx(arch)
    every = replace(method, settings={**method.settings, "reading.functions": "all"})
    for some, inlining in (method, True), (every, False), (method, True):
        assert graphs(table, some, ["board_latency_ms"], rows, tmp_path) == [linearize(model, inlining=inlining)]
    assert linearize(model, inlining=False) != linearize(model)


def test_texts_are_kept_and_checked(protocol: Protocol, tmp_path: Path) -> None:
    table = runs.table_of(protocol, tmp_path)
    path = tmp_path / "texts.parquet"
    from nasrlm.bench.texts import Texts

    rows = np.array([3, 1, 4])
    texts = Texts(table, path)[rows]
    assert Texts(table, path)[rows] == texts and len(set(texts)) == 3
    frame = pd.read_parquet(path)
    frame["text"] = "of another version"
    frame.to_parquet(path)
    assert Texts(table, path)[rows] == texts
