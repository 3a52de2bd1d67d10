"""Settings of fine-tuning a pretrained model on few labels, judged on seeds that the benchmark does not report.

    python -m experiments.finetune_trials --checkpoint rlm-small        # hours on one core; resumes
    python -m experiments.finetune_trials --checkpoint runs/pretrain/trial --trials 0 --sizes 16,128

A trial is a configuration: ``standing`` is what stands in ``nasrlm/bench/pretrained.py``, ``scratch`` the same model
without pretraining by the benchmark's recipe ``rlm``, a number a random choice of each setting. It is fitted to ``n``
labels drawn with the seeds 100, 101, … and judged by Kendall tau on networks that are not functionally identical to a
training network. ``results/finetune_trials.csv`` has a row per configuration, table, metric, size and seed; rows that
are there are not run again. The best configuration of each size is printed, to be put into
``nasrlm/bench/pretrained.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.record import RESULTS, command_of, read_rows, write_csv
from nasrlm.bench.inputs import graphs, networks, table_of
from nasrlm.bench.methods import Method, find
from nasrlm.bench.pretrained import FINETUNING, STEPS, finetuning_sizes
from nasrlm.bench.protocol import Protocol, draw
from nasrlm.bench.runs import pin_threads
from nasrlm.metrics import kendall_tau
from search_spaces.errors import UsageError

CSV = RESULTS / "finetune_trials.csv"
#: Where linearised texts are kept; shared with the benchmark.
FOLDER = Path("runs") / "kendall_tau"
#: The benchmark reports the seeds 0, 1, …
FIRST_SEED = 100
TEST_NETWORKS = 1000
KEYS = ["checkpoint", "arm", "table", "metric", "size", "seed"]
#: Not a setting of a surrogate: optimisation steps, in multiples of those that stand.
STEP_FACTOR = "steps"
CHOICES: Mapping[str, Sequence[object]] = {
    STEP_FACTOR: (0.5, 1.0, 2.0),
    "start.pool": (0, 1024, 2048, 4096),
    "start.dropout": (0.0, 0.1, 0.2),
    "start.freeze": ((), ("encoder.embedding",), ("encoder",)),
    "start.like": ("best", ""),
    "training.learning_rate": (1e-4, 3e-4, 1e-3),
    "training.weight_decay": (0.01, 0.05, 0.2),
    "training.smoothing": (0.01, 0.02, 0.05),
    "training.digit_weights": ((1.0,), (1.0, 0.5, 0.1)),
    "training.ema": (0.98, 0.99, 0.999),
    "training.orders": (1, 4, 8),
    "training.ranking": (0.0, 0.3, 1.0),
    "decoding.readings": (1, 4),
}


@dataclass(frozen=True)
class Trial:
    """One fit."""

    checkpoint: str
    arm: str
    table: str
    metric: str
    size: int
    seed: int


def main() -> None:
    """Run what is missing, then name the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="rlm-small", help="folder or shipped name")
    parser.add_argument("--arms", default="scratch,standing", help="configurations beside the random ones")
    parser.add_argument("--trials", type=int, default=16, help="random configurations")
    parser.add_argument("--tables", default="nasbench201:cifar10_test,nasbench101:cifar10_test")
    parser.add_argument("--sizes", default="16,128,512")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start nothing after so long")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    pin_threads()
    done = read_rows(options.out, KEYS, texts=["arm"])
    known = set(map(tuple, done[KEYS].to_numpy().tolist()))
    arms = [arm for arm in options.arms.split(",") if arm] + [str(number) for number in range(options.trials)]
    deadline = time.monotonic() + 60 * options.time_limit
    for trial in planned(options.checkpoint, arms, options.tables, options.sizes, options.seeds):
        if tuple(vars(trial).values()) in known:
            continue
        if options.time_limit and time.monotonic() > deadline:
            break
        row = run(trial)
        done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
        write_csv(options.out, done, command=command_of("experiments.finetune_trials"), seed=FIRST_SEED)
        print(row, flush=True)
    print(summary(done[done["checkpoint"] == options.checkpoint]).to_string())


def planned(checkpoint: str, arms: Sequence[str], tables: str, sizes: str, seeds: int) -> list[Trial]:
    """All trials, the first seed of every configuration first."""
    pairs = [pair.partition(":")[::2] for pair in tables.split(",")]
    return [
        Trial(checkpoint, arm, table, metric, int(size), FIRST_SEED + seed)
        for seed in range(seeds)
        for arm in arms
        for table, metric in pairs
        for size in sizes.split(",")
    ]


def configuration(arm: str) -> dict[str, object]:
    """The settings of a random configuration; those that stand for ``standing``.

    Raises:
        UsageError: Neither a number nor ``standing``.
    """
    if arm == "standing":
        return {}
    if not arm.isdigit():
        raise UsageError(f"unknown configuration {arm!r}; choose scratch, standing, or a number for a random one")
    rng = np.random.default_rng([FIRST_SEED, int(arm)])
    return {name: choices[int(rng.integers(len(choices)))] for name, choices in CHOICES.items()}


def method_of(trial: Trial) -> tuple[Method, dict[str, object]]:
    """The method of a trial, and the settings in which it differs from what stands."""
    if trial.arm == "scratch":
        return find("rlm"), {}
    changed = configuration(trial.arm)
    factor = float(str(changed.get(STEP_FACTOR, 1.0)))
    steps = {size: round(factor * count) for size, count in STEPS.items()}
    settings = {**FINETUNING, **{name: value for name, value in changed.items() if name != STEP_FACTOR}}
    method = replace(
        find("rlm_pretrained"),
        start=trial.checkpoint,
        settings=settings,
        sized=lambda size: {
            name: value for name, value in finetuning_sizes(size, steps).items() if name not in changed
        },
    )
    return method, changed


def run(trial: Trial) -> dict[str, object]:
    """Fit and judge; a row of the table."""
    method, changed = method_of(trial)
    protocol = Protocol(trial.table, (trial.metric,), test=TEST_NETWORKS)
    table = table_of(protocol, FOLDER)
    rows = draw(table, protocol, trial.metric, trial.size, trial.seed)
    truth = table.frame[trial.metric].to_numpy(dtype=float)
    labels = table.frame[[trial.metric]].iloc[rows.train].reset_index(drop=True)
    surrogate = method.create(table, [trial.metric], trial.size, trial.seed)
    begin = time.process_time()
    surrogate.fit(networks(table, rows.train), labels)
    seconds = time.process_time() - begin
    predicted = surrogate.predict(graphs(table, method, [trial.metric], rows.test, FOLDER)).mean[:, 0]  # type: ignore[arg-type]
    return {
        **vars(trial),
        "settings": json.dumps(changed),
        "kendall_tau": round(float(np.nan_to_num(kendall_tau(truth[rows.test], predicted))), 4),
        "cpu_seconds": round(seconds, 1),
    }


def summary(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean tau of every configuration, by table and size; the best first."""
    if trials.empty:
        return trials
    table = trials.pivot_table(index="arm", columns=["table", "metric", "size"], values="kendall_tau")
    return table.loc[table.mean(axis=1).sort_values(ascending=False).index].round(4)


if __name__ == "__main__":
    main()
