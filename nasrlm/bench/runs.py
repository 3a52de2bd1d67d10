"""Runs: what is to be done, each task on its own, in this process or several."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nasrlm.bench.inputs import given, graphs, labels_of, labels_print, networks, table_of
from nasrlm.bench.machine import machine
from nasrlm.bench.methods import find
from nasrlm.bench.processes import completed
from nasrlm.bench.protocol import Protocol, Task, joint_groups
from nasrlm.bench.store import Predictions, Store, plain
from nasrlm.metrics import interval_coverage, kendall_tau, resampled, spearman_rho

#: Networks of the second pass that is timed: by then what a surrogate keeps of a network is there.
TIMED = 500
Report = Callable[[str], None]


class Plan(NamedTuple):
    """What is to be run.

    Attributes:
        tasks: In an order in which an early stop is useful: first seeds first, then small budgets.
        left_out: What is not run and why, a line each.
    """

    tasks: list[Task]
    left_out: list[str]


def plan(protocols: Sequence[Protocol], methods: Sequence[str], folder: Path) -> Plan:
    """The tasks of ``protocols``.

    Left out are methods that need columns a table lacks, and budgets that leave less than 100 networks (or a quarter of
    a small table) to test on.
    """
    found: list[Task] = []
    left_out: list[str] = []
    for protocol in protocols:
        table = table_of(protocol, folder)
        labelled = int(table.frame[list(protocol.metrics)].notna().sum().min())
        sizes = [size for size in protocol.sizes if labelled - size >= min(100, labelled // 4)]
        if absent := [size for size in protocol.sizes if size not in sizes]:
            left_out.append(f"{protocol.table}: {labelled} labels are too few for n={','.join(map(str, absent))}")
        for name in methods:
            method = find(name)
            if not method.applies(table):
                left_out.append(f"{protocol.table}: no values of {method.column or 'any zero-cost proxy'} for {name}")
                continue
            singles = [(metric,) for metric in protocol.metrics]
            for metrics in joint_groups(table, protocol.metrics) if method.joint else singles:
                found += [Task(protocol, metrics, name, size, seed) for size in sizes for seed in range(protocol.seeds)]
    return Plan(sorted(found, key=lambda task: (task.seed, task.size)), left_out)


def run_tasks(
    todo: Sequence[Task],
    folder: Path,
    *,
    workers: int = 1,
    minutes: float = 0,
    predictions: bool = False,
    report: Report = lambda line: None,
) -> int:
    """Run what is not done yet; a failing run is written down and the others go on.

    Args:
        todo: The tasks, in their order.
        folder: Where runs are kept.
        workers: Processes, each with one thread; 1 runs in this process.
        minutes: Start nothing after so long; 0 has no limit.
        predictions: Repeat what was taken over from another folder, whose predictions stayed there.
        report: Is told a line about each run.

    Returns:
        The number of tasks that were left because of the limit.
    """
    store = Store(folder)
    open_tasks = [
        task
        for task in todo
        if not store.done(
            task,
            find(task.method).identity(table_of(task.protocol, folder), task.metrics, task.size),
            predictions=predictions,
        )
    ]
    report(f"{len(todo) - len(open_tasks)} of {len(todo)} tasks are done already")
    left = len(open_tasks)
    calls = [(task, folder) for task in open_tasks]
    for _, line in completed(run_task, calls, workers=workers, minutes=minutes):
        report(line)
        left -= 1
    return left


def run_task(task: Task, folder: Path) -> str:
    """Run a task and keep its scores, or why it failed; a line that says which."""
    store = Store(folder)
    name = f"{task.protocol.table} {','.join(task.metrics)} n={task.size} seed={task.seed} {task.method}"
    try:
        records = _fit_and_judge(task, store)
    except Exception as error:  # whatever a method raises is its result
        store.write_error(task, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
        return f"{name}: failed, {type(error).__name__}: {error}"
    taus = ", ".join(f"{record['kendall_tau']:.3f}" for record in records)
    return f"{name}: tau {taus}, {records[0]['train_cpu_seconds']:.1f} s"


def _fit_and_judge(task: Task, store: Store) -> list[dict[str, Any]]:
    protocol, folder, method = task.protocol, store.folder, find(task.method)
    table = table_of(protocol, folder)
    rows = store.draw(table, protocol, task.metrics[0], task.size, task.seed)
    for metric in task.metrics[1:]:  # equal by ``joint_groups``; written for the summary
        store.draw(table, protocol, metric, task.size, task.seed)
    labels = labels_of(table, method, task.metrics, rows.train)
    train, test = networks(table, rows.train), graphs(table, method, task.metrics, rows.test, folder)
    surrogate = method.create(table, task.metrics, task.size, task.seed)

    weights = method.weights(table)
    how: dict[str, Any] = {"metric_weights": weights} if weights else {}

    begin, begin_cpu = time.perf_counter(), time.process_time()
    surrogate.fit(train, labels, **how)
    fitted, fitted_cpu = time.perf_counter(), time.process_time()
    columns = given(table, method, rows.test)
    prediction = surrogate.predict(test, task.metrics, columns)  # type: ignore[arg-type]
    again = time.perf_counter()
    few = None if columns is None else columns[:TIMED]
    surrogate.predict(test[:TIMED], task.metrics, few)  # type: ignore[arg-type]
    speed = min(len(test), TIMED) / (time.perf_counter() - again)

    records = []
    for column, metric in enumerate(task.metrics):
        truth, mean = table.frame[metric].to_numpy(dtype=float)[rows.test], prediction.mean[:, column]
        taus = resampled(_tau, truth, mean, seed=task.seed, resamples=protocol.resamples)
        record: dict[str, Any] = {
            "space": table.space.name,
            "table": protocol.table,
            "metric": metric,
            "method": method.name,
            "n_labels": task.size,
            "seed": task.seed,
            "kendall_tau": _tau(truth, mean),
            "spearman_rho": float(np.nan_to_num(spearman_rho(truth, mean))),
            "train_seconds": fitted - begin,
            "train_cpu_seconds": fitted_cpu - begin_cpu,
            "queries_per_second": speed,
            "test_networks": len(truth),
            "joint": len(task.metrics),
            "settings": plain(method.identity(table, task.metrics, task.size)),
            "test_limit": protocol.test,
            "labels": labels_print(table, metric),
            "machine": machine(),
        }
        if prediction.levels and prediction.levels[0] <= 0.05 and prediction.levels[-1] >= 0.95:
            shares = interval_coverage(truth, prediction.quantiles[:, column], prediction.levels)
            record |= {f"coverage_{nominal:.0%}".rstrip("%"): share for nominal, share in shares.items()}
        store.write(task, metric, record, Predictions(mean, taus))
        records.append(record)
    return records


def _tau(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Kendall's tau; 0 for constant predictions, which order nothing.

    Raises:
        ValueError: A prediction is not finite.
    """
    if not np.isfinite(predicted).all():
        raise ValueError(f"{int((~np.isfinite(predicted)).sum())} of {len(predicted)} predictions are not finite")
    return float(np.nan_to_num(kendall_tau(truth, predicted)))
