"""The pretrained language model in a search: refitted to the labels bought, by the recipe for their number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

import search_spaces
from nasrlm.bench.pretrained import QUALITY_WEIGHT, recipe
from nasrlm.cli import main
from nasrlm.cli.models import surrogate_for
from nasrlm.few_shot import FewShotRLM, few_shot_settings
from nasrlm.metrics import kendall_tau
from nasrlm.search import SearchConfig
from search_spaces.errors import UsageError
from search_spaces.networks import Networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, ModelConfig, TrainingConfig

SIZES = ("params", "macs")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that reads lines and knows two free targets of NAS-Bench-Macro."""
    space, rng = search_spaces.get("nasbench_macro"), np.random.default_rng(0)
    models = [space.to_onnx(space.sample(rng)) for _ in range(60)]
    model = ModelConfig(
        width=20,
        encoder_layers=1,
        decoder_layers=1,
        feed_forward=32,
        heads=("producers", "all"),
        encoder="lines",
        ways=True,
        flow=True,
        mean_heads=2,
    )
    training = TrainingConfig(epochs=30, batch_size=16, learning_rate=0.01, ranking=10.0, ranking_by="slope", threads=1)
    rlm = RLM(model, training).fit(models, free_targets(models)[["log_macs", "log_params"]])
    out = tmp_path_factory.mktemp("start") / "start"
    rlm.save_pretrained(out)
    return out


def test_settings_follow_the_number_of_labels(start: Path) -> None:
    space, rng = search_spaces.get("nasbench_macro"), np.random.default_rng(1)
    architectures = [space.sample(rng) for _ in range(164)]
    networks = Networks(space, architectures)
    labels = pd.DataFrame({"params": free_targets(list(networks))["log_params"].to_numpy()})
    surrogate = FewShotRLM(start, seed=4)
    for size in (8, 64):
        surrogate.fit(list(networks[:size]), labels[:size])
        expected = recipe(size)
        assert expected["teaching.pool"] != 0
        assert surrogate.teaching.pool == 0  # it has models alone, and a search has no time
        for name in ("epochs", "batch_size", "anchor"):
            default = getattr(TrainingConfig(), name)
            assert getattr(surrogate.training, name) == expected.get(f"training.{name}", default)
        assert surrogate.training.seed == 4
        assert surrogate.metrics == ("params",)
    predicted = surrogate.predict(networks[64:]).mean[:, 0]
    assert kendall_tau(labels["params"].to_numpy()[64:], predicted) > 0.7


@pytest.mark.parametrize(("size", "weights"), [(16, {}), (600, {"cifar10_test": QUALITY_WEIGHT})])
def test_accuracy_weighs_beside_latencies_as_the_recipe_says(size: int, weights: dict[str, float]) -> None:
    metrics = ["cifar10_test", "pixel3_latency_ms"]
    assert few_shot_settings(["accuracy", "latency"], metrics, size).get("start.weights", {}) == weights


def test_nothing_is_left_of_an_earlier_fit(start: Path) -> None:
    """Dead operations, which do not touch an accuracy, are read again where a device is asked for."""
    space, rng = search_spaces.get("nasbench_macro"), np.random.default_rng(1)
    networks = Networks(space, [space.sample(rng) for _ in range(8)])
    surrogate = FewShotRLM(start)
    for metric, dead in ("cifar10_test", "drop"), ("pixel3_latency_ms", "keep"):
        surrogate.fit(networks, pd.DataFrame({metric: np.arange(8.0)}))
        assert surrogate.reading.dead == dead


def test_a_search_buys_labels_and_refits(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "nasbench_macro", "--objectives", ",".join(SIZES), "--surrogate", str(start)]
    command += ["--labels", "measure", "--budget", "30", "--population", "8", "--json", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(SIZES) <= set(printed["front"][0])
    evaluations = pd.read_csv(tmp_path / "run" / "evaluations.csv")
    assert evaluations.groupby("round").size().tolist() == [20, 10]
    # few parameters are the best: what the model asks for has fewer than what was drawn at random
    assert evaluations.groupby("round")["params"].median().is_monotonic_decreasing
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["surrogate"] == {"class": "FewShotRLM", "metrics": [], "start": str(start)}
    (tmp_path / "run" / "run.json").unlink()
    other = [part if part != str(start) else "rlm-small" for part in command]
    assert main([*other, "--resume"]) != 0
    assert "cannot resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "objectives", "budget", "labels", "start"),
    [
        ("nasbench201", ("cifar10_test", "pixel3_latency_ms"), 0, "none", ""),
        ("nasbench201", ("cifar10_test", "pixel3_latency_ms"), 50, "table", ""),
        ("nasbench201", ("imagenet16_120_test", "pixel3_latency_ms"), 50, "table", "rlm-small-without-nasbench201"),
        ("nasbench101", ("cifar10_test", "params"), 50, "table", "rlm-small-without-nasbench101"),
        ("hiaml", ("ort_cpu_latency_ms", "params"), 50, "measure", "rlm-small"),
        ("hiaml", ("cifar10_test", "params"), 0, "none", ""),
    ],
)
def test_what_searches_when_nothing_is_named(
    space: str, objectives: tuple[str, ...], budget: int, labels: str, start: str
) -> None:
    config = SearchConfig(space, objectives, budget=budget, labels=labels, seed=3)  # type: ignore[arg-type]
    chosen = surrogate_for(config)
    if not start:
        assert isinstance(chosen, RLM) and not isinstance(chosen, FewShotRLM)
        assert "cifar10_test" in chosen.metrics
        return
    assert isinstance(chosen, FewShotRLM) and chosen.start.checkpoint == start and not chosen.metrics


def test_a_named_start_is_fitted_and_any_other_model_asked_as_it_is(start: Path) -> None:
    config = SearchConfig("nasbench_macro", ("params", "macs"), budget=30, labels="measure")
    assert isinstance(surrogate_for(config, str(start)), FewShotRLM)
    assert not isinstance(surrogate_for(config, "nasbench201"), FewShotRLM)
    with pytest.raises(UsageError, match=r"start is a start for fine-tuning.*--budget"):
        surrogate_for(SearchConfig("nasbench_macro", ("params",)), str(start))


def test_ranks_of_a_start_are_not_shown_as_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = search_spaces.get("nasbench201")
    onnx.save(space.to_onnx(space.sample(np.random.default_rng(0))), tmp_path / "net.onnx")
    options = ["--surrogate", "rlm-small", "--metrics", "pixel3_latency_ms"]
    assert main(["predict", str(tmp_path / "net.onnx"), *options]) != 0
    assert "rlm-small is a start for fine-tuning" in capsys.readouterr().err


def test_only_a_pretrained_model_of_lines_can_be_gone_on_from() -> None:
    with pytest.raises(UsageError, match="nasbench201 reads no lines"):
        FewShotRLM("nasbench201")
