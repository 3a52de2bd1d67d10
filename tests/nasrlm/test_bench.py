"""The benchmark: what every method is given, what is kept, what is concluded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_surrogate import LinearSurrogate

import search_spaces
from nasrlm.bench import methods, runs
from nasrlm.bench.ceiling import noise_ceiling
from nasrlm.bench.inputs import graphs, labels_print, open_table, table_of
from nasrlm.bench.methods import Method, configure, find
from nasrlm.bench.pages import write_results
from nasrlm.bench.pretrained import like_of
from nasrlm.bench.protocol import Protocol, Task, draw, joint_groups
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Predictions, Store
from nasrlm.bench.summary import best_of, summarise
from nasrlm.cli import main
from nasrlm.labels.own_table import own_table
from search_spaces.analysis import count_macs
from search_spaces.errors import UnknownNameError, UsageError
from surrogates import registry
from surrogates.text import linearize

NETWORKS = 90


@pytest.fixture(scope="session")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of real networks with labels made of their MACs; a tenth is not measured."""
    space = search_spaces.get("nasbench_macro")
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(NETWORKS)]
    macs = np.array([count_macs(space.to_onnx(net)) for net in nets], dtype=float) / 1e6
    frame = pd.DataFrame({"arch": [space.format(net) for net in nets], "board_latency_ms": macs})
    frame["toy_test"] = 100 - macs + rng.normal(0, 5, NETWORKS)
    frame["other_latency_ms"] = frame["board_latency_ms"] * 2
    frame.loc[::10, "toy_test"] = np.nan
    path = tmp_path_factory.mktemp("labels") / "mine.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def protocol(own_file: Path) -> Protocol:
    return Protocol("mine", ("board_latency_ms",), (8, 16), 2, 40, str(own_file), "nasbench_macro", resamples=20)


class Recorder(LinearSurrogate):
    """Notes what it was given."""

    seen: ClassVar[list[tuple[tuple[Any, ...], tuple[str, ...]]]] = []

    def fit(self, graphs: Any, labels: pd.DataFrame) -> Any:
        self.seen.append((graphs.architectures, tuple(labels.columns)))
        return super().fit(graphs, labels)


class Another(Recorder):
    pass


class Broken(LinearSurrogate):
    def predict(self, graphs: Any, metrics: Any = None, given: Any = None) -> Any:
        raise RuntimeError("no prediction today")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in {"recorder": Recorder, "another": Another, "broken": Broken}.items():
        monkeypatch.setitem(registry.BUILT_IN, name, f"{__name__}:{cls.__name__}")
    monkeypatch.setattr(Recorder, "seen", [])
    methods._prototype.cache_clear()


@given(seed=st.integers(0, 10_000), size=st.integers(4, 40))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_draw_is_fair(seed: int, size: int, own_file: Path) -> None:
    metrics = ("board_latency_ms", "other_latency_ms", "toy_test")
    table = open_table("mine", str(own_file), "nasbench_macro", metrics, own_file.parent)
    protocol = Protocol("mine", metrics, test=30)
    for metric in metrics:
        rows = draw(table, protocol, metric, size, seed)
        assert len(rows.train) == size and 2 <= len(rows.test) <= 30
        assert np.isfinite(table.frame[metric].to_numpy()[np.concatenate([rows.train, rows.test])]).all()
        keys = [{table.space.canonical(table.architectures[int(r)]) for r in part} for part in (rows.train, rows.test)]
        assert not keys[0] & keys[1]
        larger = draw(table, protocol, metric, size + 4, seed)
        np.testing.assert_array_equal(larger.train[:size], rows.train)
    for group in joint_groups(table, metrics):
        assert len({draw(table, protocol, metric, size, seed).train.tobytes() for metric in group}) == 1
    assert joint_groups(table, metrics) == [metrics[:2], metrics[2:]]


def test_every_method_learns_from_the_same_networks(protocol: Protocol, tmp_path: Path, plugged: None) -> None:
    todo = plan([protocol], ["recorder", "another"], tmp_path)
    assert not todo.left_out
    assert run_tasks(todo.tasks, tmp_path) == 0
    given_to = [archs for archs, _ in Recorder.seen]
    assert len(given_to) == 8
    for one, other in zip(given_to[::2], given_to[1::2], strict=True):
        assert one == other
    assert len(set(given_to)) == 4
    # first seeds first, then small budgets: an early stop leaves every method with something
    assert [(task.seed, task.size) for task in todo.tasks] == [(s, n) for s in (0, 1) for n in (8, 8, 16, 16)]


def test_a_run_is_not_repeated(protocol: Protocol, tmp_path: Path, plugged: None) -> None:
    todo = plan([protocol], ["recorder"], tmp_path).tasks
    assert run_tasks(todo, tmp_path, minutes=1e-9) == 4 and not Recorder.seen
    run_tasks(todo[:3], tmp_path)
    before = Store(tmp_path).runs(protocol)
    run_tasks(todo, tmp_path)
    assert len(Recorder.seen) == 4
    after = Store(tmp_path).runs(protocol)
    pd.testing.assert_frame_equal(after[after.set_index(["n_labels", "seed"]).index.isin(
        before.set_index(["n_labels", "seed"]).index)].reset_index(drop=True), before)  # fmt: skip
    # killed after the predictions and before the scores: not done
    folder = Store(tmp_path).run_folder(protocol, "board_latency_ms", 16, 1)
    kept = np.load(folder / "recorder.npz")["mean"]
    (folder / "recorder.json").unlink()
    run_tasks(todo, tmp_path)
    assert len(Recorder.seen) == 5
    np.testing.assert_array_equal(np.load(folder / "recorder.npz")["mean"], kept)


def test_other_settings_make_runs_stale(protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = plan([protocol], ["xgboost_genome"], tmp_path).tasks
    run_tasks(todo, tmp_path)
    said: list[str] = []
    run_tasks(todo, tmp_path, report=said.append)
    assert said == ["4 of 4 tasks are done already"]
    standing = methods.METHODS["xgboost_genome"]
    changed = replace(standing, settings={**standing.settings, "config.trees": 7})
    monkeypatch.setitem(methods.METHODS, "xgboost_genome", changed)
    names, out = ["xgboost_genome", "flops"], tmp_path / "out"
    run_tasks(plan([protocol], ["flops"], tmp_path).tasks, tmp_path)
    old = write_results([protocol], names, tmp_path, out)
    assert set(old.runs["method"]) == {"flops"} and old.stale == 4  # no page mixes two settings of a method
    assert "4 runs by earlier settings" in (out / "summary.md").read_text()
    assert set(pd.read_parquet(out / "runs.parquet")["method"]) == {"flops"}
    run_tasks(todo, tmp_path, report=said.append)
    assert said[1] == "0 of 4 tasks are done already" and len(said) == 6
    assert write_results([protocol], names, tmp_path, out).runs["method"].value_counts()["xgboost_genome"] == 4


def test_runs_of_another_machine_are_taken_over(protocol: Protocol, tmp_path: Path) -> None:
    here, there, names = tmp_path / "here", tmp_path / "there", ["flops", "xgboost_genome"]
    run_tasks(plan([protocol], names, there).tasks, there)
    before = write_results([protocol], names, there, there)
    kept = pd.read_parquet(there / "runs.parquet")
    labels = {(protocol.table, m): labels_print(table_of(protocol, there), m) for m in protocol.metrics}
    assert Store(here).restore(kept[kept["n_labels"] == 8], [protocol], labels) == 4
    assert Store(here).methods([protocol]) == sorted(names)
    said: list[str] = []
    assert run_tasks(plan([protocol], names, here).tasks, here, report=said.append) == 0
    assert said[0] == "4 of 8 tasks are done already"
    after = write_results([protocol], names, here, here)
    taus = ["kendall_tau", "behind", "behind_low", "behind_high", "rank"]
    keys = ["n_labels", "method"]
    pd.testing.assert_frame_equal(
        after.summary.set_index(keys)[taus].sort_index(), before.summary.set_index(keys)[taus].sort_index(), atol=1e-4
    )
    assert Store(here).restore(kept, [protocol], labels) == 0  # what is here stays
    # other labels, another test set, other bootstrap samples, a table of an earlier version: none of it counts
    fresh = Store(tmp_path / "fresh")
    assert fresh.restore(kept, [protocol], dict.fromkeys(labels, "other")) == 0
    assert fresh.restore(kept, [replace(protocol, test=protocol.test + 1)], labels) == 0
    assert fresh.restore(kept, [replace(protocol, resamples=protocol.resamples + 1)], labels) == 0
    assert fresh.restore(kept.drop(columns="labels"), [protocol], labels) == 0
    assert fresh.restore(kept, [protocol], labels) == 8


def test_another_checkpoint_of_the_same_name_makes_runs_stale(tmp_path: Path) -> None:
    from nasrlm.bench.methods import content_of

    (tmp_path / "config.json").write_text("{}")
    before = content_of(str(tmp_path))
    content_of.cache_clear()
    assert content_of(str(tmp_path)) == before
    content_of.cache_clear()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert content_of(str(tmp_path)) != before


@pytest.mark.parametrize(
    ("space", "start", "chosen"),
    [
        ("nasbench201", "rlm-small", "rlm-small-without-nasbench201"),
        ("nasbench201", "rlm-free", "rlm-free"),
        ("hiaml", "rlm-small", "rlm-small"),  # nobody's labels of that space were ever learned
        ("darts", "rlm-small", "rlm-free"),  # rlm-small learned labels of this one
        ("darts", "other", "other"),
    ],
)
def test_no_method_starts_from_labels_of_the_space_it_is_judged_on(
    space: str, start: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["rlm-small", "rlm-free", "rlm-small-without-nasbench201"]
    monkeypatch.setattr(methods.registry, "checkpoints", lambda: names)
    table = SimpleNamespace(space=SimpleNamespace(name=space))
    assert Method("m", "rlm", start=start).start_for(table) == chosen  # type: ignore[arg-type]


def test_a_failing_method_is_reported_and_the_rest_goes_on(
    protocol: Protocol, tmp_path: Path, plugged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["broken", "recorder"]
    run_tasks(plan([protocol], names, tmp_path).tasks, tmp_path)
    results = write_results([protocol], names, tmp_path, tmp_path)
    assert set(results.runs["method"]) == {"recorder"} and len(results.runs) == 4
    assert len(results.failures) == 4
    assert all("broken: RuntimeError: no prediction today" in line for line in results.failures)
    assert "## Failed runs" in (tmp_path / "summary.md").read_text()
    monkeypatch.setattr(Broken, "predict", LinearSurrogate.predict)  # mended: tried again, and no longer reported
    run_tasks(plan([protocol], names, tmp_path).tasks, tmp_path)
    results = write_results([protocol], names, tmp_path, tmp_path)
    assert not results.failures and len(results.runs) == 8


def test_scores_are_those_of_the_predictions(protocol: Protocol, tmp_path: Path) -> None:
    run_tasks(plan([protocol], ["flops"], tmp_path).tasks, tmp_path)
    found = Store(tmp_path).runs(protocol)
    assert (found["kendall_tau"] > 0.999).all()  # the label is the MACs
    predictions = Store(tmp_path).predictions(protocol, "board_latency_ms", 16, 1, "flops")
    assert len(predictions.mean) == found["test_networks"].iloc[-1] and len(predictions.resampled) == 20
    assert found["queries_per_second"].gt(0).all() and found["train_seconds"].ge(0).all()


def test_a_joint_fit_answers_what_is_labelled_together(
    protocol: Protocol, tmp_path: Path, plugged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods.EXTRA, "together", Method("together", "recorder", joint=True))
    metrics = ("board_latency_ms", "toy_test", "other_latency_ms")
    wide = replace(protocol, metrics=metrics, sizes=(8,), seeds=1)
    run_tasks(plan([wide], ["together"], tmp_path).tasks, tmp_path)
    assert [columns for _, columns in Recorder.seen] == [("board_latency_ms", "other_latency_ms"), ("toy_test",)]
    found = Store(tmp_path).runs(wide).set_index("metric")
    assert found["joint"].to_dict() == {"board_latency_ms": 2, "toy_test": 1, "other_latency_ms": 2}


def test_what_cannot_be_run_is_said(protocol: Protocol, tmp_path: Path) -> None:
    todo = plan([replace(protocol, sizes=(8, 80))], ["nwot", "flan_zcp", "flops"], tmp_path)
    assert {task.method for task in todo.tasks} == {"flops"} and {task.size for task in todo.tasks} == {8}
    assert len(todo.left_out) == 3
    with pytest.raises(UnknownNameError, match="xgboost_graph"):
        find("xgboost_grpah")
    for wrong in ({"sizes": (2,)}, {"seeds": 0}, {"metrics": ()}, {"test": -1}):
        with pytest.raises(UsageError):
            replace(protocol, **wrong)


def test_a_folder_holds_one_protocol(protocol: Protocol, tmp_path: Path, own_file: Path) -> None:
    run_tasks(plan([protocol], ["flops"], tmp_path / "runs").tasks, tmp_path / "runs")
    said: list[str] = []
    fewer = replace(protocol, test=20)
    run_tasks(plan([fewer], ["params"], tmp_path / "runs").tasks, tmp_path / "runs", report=said.append)
    assert all("at most 40 test networks, asked for 20" in line for line in said[1:])
    frame = pd.read_csv(own_file, dtype={"arch": str})
    frame["board_latency_ms"] += 1
    frame.to_csv(tmp_path / "mine.csv", index=False)
    others = replace(protocol, labels=str(tmp_path / "mine.csv"))
    run_tasks(plan([others], ["params"], tmp_path / "runs").tasks, tmp_path / "runs", report=said.append)
    assert "other labels of 'mine'" in said[-1]


def test_a_lead_must_hold_on_networks_and_on_labels(protocol: Protocol, tmp_path: Path) -> None:
    """Four methods with made-up bootstrap samples: the best, its twin, one worse throughout, one worse by one seed."""
    rng = np.random.default_rng(0)
    store, wide = Store(tmp_path), replace(protocol, sizes=(8,), seeds=5)
    for seed in range(5):
        noise = rng.normal(0, 0.01, 200)
        taus = {"best": 0.8, "twin": 0.799, "worse": 0.7, "unlucky": 0.8 - 0.2 * (seed == 0)}
        for name, tau in taus.items():
            own = tau + noise + rng.normal(0, 0.005, 200)
            record = {"space": "s", "table": "mine", "metric": "board_latency_ms", "method": name, "n_labels": 8,
                      "seed": seed, "kendall_tau": tau, "spearman_rho": tau, "train_seconds": [1, 2, 3, 9, 9][seed],
                      "train_cpu_seconds": 1.0, "queries_per_second": 1.0, "settings": {},
                      "machine": "usual" if seed < 3 else "fast"}  # fmt: skip
            store.write(Task(wide, wide.metrics, name, 8, seed), wide.metrics[0], record, Predictions(own, own))
    found = summarise(store.runs(wide), [wide], store).set_index("method")
    assert found["rank"].to_dict() == {"best": "best", "twin": "tied", "worse": "", "unlucky": "tied"}
    assert found["train_seconds"].eq(2).all()  # seconds of two machines do not mix
    assert found.loc["worse", "behind"] == pytest.approx(0.1)
    assert found.loc["worse", "behind_low"] < 0.1 < found.loc["worse", "behind_high"]
    assert found.loc["unlucky", "behind_low"] > 0 and found.loc["unlucky", "behind_half"] > 0.04


def test_the_best_is_found_on_draws_that_all_have() -> None:
    """Neither more runs nor an easy draw makes a method better than one that leads on the same labels."""
    all_draws = pd.Series({0: 0.2, 1: 0.3, 2: 0.9})
    lucky, ahead = pd.Series({1: 0.1, 2: 0.95}), pd.Series({0: 0.5, 1: 0.6})
    assert best_of({"all_draws": all_draws, "ahead": ahead}) == "ahead"
    assert best_of({"all_draws": all_draws, "ahead": ahead, "lucky": lucky}) == "ahead"
    assert best_of({"early": all_draws[[0]], "late": all_draws[[1, 2]]}) == "late"  # nothing shared: most draws


def test_the_ceiling_is_the_agreement_of_twins(tmp_path: Path) -> None:
    space = search_spaces.get("nasbench201")
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(800)]
    keys = [space.canonical(net) for net in nets]
    quality = {key: rng.normal() for key in keys}
    truth = np.array([quality[key] for key in keys])
    found = []
    for noise in (0.0, 0.3, 3.0):
        frame = pd.DataFrame({"arch": [space.format(net) for net in nets]})
        frame["toy_test"] = frame["board_latency_ms"] = truth + noise * rng.normal(size=len(nets))
        frame.to_csv(tmp_path / "mine.csv", index=False)
        table = own_table(tmp_path / "mine.csv", "nasbench201", ("toy_test", "board_latency_ms"))
        found.append(noise_ceiling(table, "toy_test"))
        assert np.isnan(noise_ceiling(table, "board_latency_ms"))
    assert found[0] == pytest.approx(1.0) and 0.3 < found[1] < 0.95 and found[2] < 0.2


def test_settings_and_seeds_reach_the_configs() -> None:
    surrogate = registry.create("gcn")
    configure(surrogate, {"model.width": 32, "training.epochs": 3}, seed=7)
    assert (surrogate.model.width, surrogate.training.epochs, surrogate.training.seed) == (32, 3, 7)
    with pytest.raises(UnknownNameError, match=r"model\.width"):
        configure(surrogate, {"model.widht": 32}, seed=7)


@pytest.mark.parametrize("name", sorted(methods.METHODS | methods.EXTRA))
def test_every_method_can_be_made(name: str, own_file: Path) -> None:
    table = open_table("mine", str(own_file), "nasbench_macro", ("board_latency_ms",), own_file.parent)
    for size in (16, 1024):
        made = [find(name).create(table, ["board_latency_ms"], size, 3) for _ in range(2)]
        assert made[0] is not made[1]


@pytest.mark.parametrize("name", ["flan", "rlm", "rlm_pretrained"])
def test_only_what_dead_operations_touch_sees_them(name: str, own_file: Path) -> None:
    table = open_table("mine", str(own_file), "nasbench_macro", ("board_latency_ms",), own_file.parent)
    asked = (("cifar10_test",), ("board_latency_ms",), ("cifar10_test", "board_latency_ms"), ("params",))
    read = [find(name).create(table, metrics, 16, 3).reading.dead for metrics in asked]  # type: ignore[attr-defined]
    assert read == ["drop", "keep", "keep", "keep"]


def test_a_new_metric_is_like_what_its_name_says() -> None:
    known = ["log_macs", "accuracy", "latency"]
    likes = {
        ("cifar10_test",): "accuracy",
        ("cifar10_test", "jigsaw_test"): "accuracy",
        ("pixel3_latency_ms",): "latency",
        ("eyeriss_energy_mj",): "best",
        ("a100_throughput_ips",): "best",
        ("params",): "best",
        ("cifar10_test", "pixel3_latency_ms"): "best",
    }
    assert {metrics: like_of(metrics, known) for metrics in likes} == likes
    assert like_of(["cifar10_test"], ["log_macs"]) == "best"  # a checkpoint that knows no label


def test_texts_are_those_that_the_method_learns_from(own_file: Path, tmp_path: Path) -> None:
    """Kept texts of live parts and of whole networks do not get mixed up."""
    space = search_spaces.get("nasbench201")
    dead = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|")
    frame = pd.DataFrame({"arch": [space.format(dead)], "toy_test": [1.0], "board_latency_ms": [2.0]})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    table = open_table("mine", str(tmp_path / "mine.csv"), "nasbench201", ("toy_test", "board_latency_ms"), tmp_path)
    method, rows, model = find("rlm"), np.array([0]), space.to_onnx(dead)
    for metric, live in ("toy_test", True), ("board_latency_ms", False):
        assert graphs(table, method, [metric], rows, tmp_path) == [linearize(model, live=live)]
    assert linearize(model, live=True) != linearize(model)


def test_texts_with_all_functions_are_kept_apart(tmp_path: Path) -> None:
    space = search_spaces.get("fbnet")
    arch = space.sample(np.random.default_rng(0))
    pd.DataFrame({"arch": [space.format(arch)], "board_latency_ms": [1.0]}).to_csv(tmp_path / "mine.csv", index=False)
    table = open_table("mine", str(tmp_path / "mine.csv"), "fbnet", ("board_latency_ms",), tmp_path)
    method, rows, model = find("rlm"), np.array([0]), space.to_onnx(arch)
    every = replace(method, settings={**method.settings, "reading.functions": "all"})
    for some, inlining in (method, True), (every, False), (method, True):
        assert graphs(table, some, ["board_latency_ms"], rows, tmp_path) == [linearize(model, inlining=inlining)]
    assert linearize(model, inlining=False) != linearize(model)


def test_bench_from_the_command_line(
    own_file: Path, tmp_path: Path, plugged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["bench", "nasbench_macro", "--labels", str(own_file), "--metrics", "board_latency_ms", "--n", "8,16"]
    command += ["--seeds", "2", "--out", str(out)]
    assert main([*command, "--surrogates", "flops,recorder,nwot", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in said["rows"]} == {"flops", "recorder"} and len(said["rows"]) == 4
    assert said["left"] == 0 and not said["failed"] and "nwot" in said["left_out"][0]
    assert len(pd.read_parquet(out / "runs.parquet")) == 8
    assert len(list(out.glob("*.png"))) == 2
    assert main([*command, "--surrogates", "psychic"]) == 2
    assert main([*command, "--surrogates", "flops", "--n", "many"]) == 2
    assert "--n 'many'" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_give_what_one_process_gives(protocol: Protocol, tmp_path: Path) -> None:
    names = ["flops", "xgboost_genome", "gcn"]
    small = replace(protocol, sizes=(8,), seeds=1)
    taus = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        run_tasks(plan([small], names, folder).tasks, folder, workers=workers)
        taus.append(Store(folder).runs(small).set_index("method")["kendall_tau"])
    pd.testing.assert_series_equal(taus[0], taus[1])


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
