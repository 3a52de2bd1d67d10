"""The benchmark: what every method is given, what is kept, what is concluded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bench_doubles import Broken, Recorder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_surrogate import LinearSurrogate

from nasrlm.bench import methods
from nasrlm.bench.figures import scatter
from nasrlm.bench.inputs import labels_print, open_table, table_of
from nasrlm.bench.methods import Method, find
from nasrlm.bench.pages import is_current, write_results
from nasrlm.bench.protocol import Protocol, draw, joint_groups
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Store
from nasrlm.cli import main
from search_spaces.errors import UnknownNameError, UsageError


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


def test_no_time_is_shown_for_a_method_that_ran_elsewhere(protocol: Protocol, tmp_path: Path) -> None:
    here, there, names = tmp_path / "here", tmp_path / "there", ["flops", "xgboost_genome"]
    run_tasks(plan([protocol], names, there).tasks, there)
    write_results([protocol], names, there, there)
    kept = pd.read_parquet(there / "runs.parquet")
    kept = kept[(kept["method"] == "flops") | (kept["n_labels"] == 8)]
    kept["machine"] = np.where(kept["method"] == "flops", "usual", "elsewhere")
    labels = {(protocol.table, m): labels_print(table_of(protocol, there), m) for m in protocol.metrics}
    Store(here).restore(kept, [protocol], labels, lambda *_: True)
    write_results([protocol], names, here, here)
    page = (here / "summary.md").read_text()
    assert "| xgboost_genome | – | – | – |\n" in page and "nan" not in page


def test_coverage_is_shown_by_method_table_and_budget(protocol: Protocol, tmp_path: Path) -> None:
    names = ["flops", "xgboost_genome"]
    run_tasks(plan([protocol], names, tmp_path).tasks, tmp_path)
    results = write_results([protocol], names, tmp_path, tmp_path / "out")
    covered = results.runs[results.runs["method"] == "xgboost_genome"].groupby("n_labels")["coverage_80"].mean()
    line = f"| xgboost_genome | {protocol.table} | " + " | ".join(f"{share:.0%}" for share in covered) + " |"
    page = (tmp_path / "out" / "summary.md").read_text()
    assert line in page.splitlines() and f"| flops | {protocol.table} |" not in page


def test_runs_of_another_machine_are_taken_over(protocol: Protocol, tmp_path: Path) -> None:
    here, there, names = tmp_path / "here", tmp_path / "there", ["flops", "xgboost_genome"]
    run_tasks(plan([protocol], names, there).tasks, there)
    before = write_results([protocol], names, there, there)
    kept = pd.read_parquet(there / "runs.parquet")
    labels = {(protocol.table, m): labels_print(table_of(protocol, there), m) for m in protocol.metrics}

    def taken(store: Store, runs: pd.DataFrame, protocol: Protocol, labels: dict[tuple[str, str], str]) -> int:
        return store.restore(runs, [protocol], labels, lambda run, of: is_current(run, of, store.folder))

    assert taken(Store(here), kept[kept["n_labels"] == 8], protocol, labels) == 4
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
    assert taken(Store(here), kept, protocol, labels) == 0  # what is here stays
    run_tasks(plan([protocol], ["flops"], here).tasks, here, predictions=True, report=said.append)
    assert "2 of 4 tasks are done already" in said  # predictions of the others stayed there
    run_tasks(plan([protocol], ["flops"], here).tasks, here, predictions=True, report=said.append)
    assert "4 of 4 tasks are done already" in said
    old = next(here.glob("*/*/*/xgboost_genome.json"))  # unless it is by settings that its method has no longer
    old.write_text(json.dumps({**json.loads(old.read_text()), "settings": {}}))
    assert taken(Store(here), kept, protocol, labels) == 1
    assert write_results([protocol], names, here, here).stale == 0
    # other labels, another test set, other bootstrap samples, a table of an earlier version: none of it counts
    fresh = Store(tmp_path / "fresh")
    assert taken(fresh, kept, protocol, dict.fromkeys(labels, "other")) == 0
    assert taken(fresh, kept, replace(protocol, test=protocol.test + 1), labels) == 0
    assert taken(fresh, kept, replace(protocol, resamples=protocol.resamples + 1), labels) == 0
    assert taken(fresh, kept.drop(columns="labels"), protocol, labels) == 0
    assert taken(fresh, kept, protocol, labels) == 8


def test_scatter_plots_can_be_left_out(protocol: Protocol, tmp_path: Path) -> None:
    run_tasks(plan([protocol], ["flops"], tmp_path).tasks, tmp_path)
    drawn = {}
    for scatters in (True, False):
        out = tmp_path / str(scatters)
        write_results([protocol], ["flops"], tmp_path, out, scatters=scatters)
        drawn[scatters] = {path.name for path in out.glob("*.png")}
    plots = {f"{protocol.table}_{metric}.png" for metric in protocol.metrics}
    assert drawn[True] - drawn[False] == plots and drawn[False]


def test_a_scatter_plot_without_the_best_method_does_not_replace_one_with_it(
    protocol: Protocol, tmp_path: Path
) -> None:
    names, out = ["flops", "xgboost_genome"], tmp_path / "out"
    run_tasks(plan([protocol], names, tmp_path).tasks, tmp_path)
    results = write_results([protocol], names, tmp_path, out)
    metric, size = protocol.metrics[0], max(protocol.sizes)
    last = results.summary[(results.summary["metric"] == metric) & (results.summary["n_labels"] == size)]
    best = str(last.set_index("method")["kendall_tau"].idxmax())
    plot = out / f"{protocol.table}_{metric}.png"
    plot.write_text("drawn elsewhere")
    path = Store(tmp_path).run_folder(protocol, metric, size, 0) / f"{best}.npz"
    kept = dict(np.load(path))
    np.savez(path, **{**kept, "mean": np.zeros(0)})
    write_results([protocol], names, tmp_path, out)
    assert plot.read_text() == "drawn elsewhere"
    np.savez(path, **kept)
    write_results([protocol], names, tmp_path, out)
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_nor_does_one_without_the_best_language_model(protocol: Protocol, tmp_path: Path) -> None:
    run_tasks(plan([protocol], ["flops"], tmp_path).tasks, tmp_path)
    metric, size = protocol.metrics[0], max(protocol.sizes)
    rows = [(protocol.table, metric, size, "flops", 0.9), (protocol.table, metric, size, "rlm", 0.8)]
    summary = pd.DataFrame(rows, columns=["table", "metric", "n_labels", "method", "kendall_tau"])
    path = Store(tmp_path).run_folder(protocol, metric, size, 0) / "rlm.npz"
    kept = dict(np.load(path.with_name("flops.npz")))
    for there in False, True:
        np.savez(path, **(kept if there else {**kept, "mean": np.zeros(0)}))
        scatter(summary, protocol, Store(tmp_path), tmp_path)
        assert (tmp_path / f"{protocol.table}_{metric}.png").exists() == there


def test_another_checkpoint_of_the_same_name_makes_runs_stale(tmp_path: Path) -> None:
    from nasrlm.bench.methods import content_of

    (tmp_path / "config.json").write_text("{}")
    before = content_of(str(tmp_path))
    content_of.cache_clear()
    assert content_of(str(tmp_path)) == before
    content_of.cache_clear()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert content_of(str(tmp_path)) != before


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
