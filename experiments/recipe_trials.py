"""What a method's figures depend on: variants of its recipe, on draws of labels that the benchmark does not report.

    python -m experiments.recipe_trials --variants standing,output   # FLAN, ten draws of 16 labels; minutes
    python -m experiments.recipe_trials --method rlm_scratch --table nasbench101 --labels 128 --seeds 3

Every variant changes some settings of the method (``nasrlm/bench``) and is fitted on the same draws, by the
seeds 100, 101, …, and judged on the same random networks. ``results/recipe_trials.csv`` has a row a variant; a row of
the same variant, table, budget and number of draws is replaced. Rows with ``stacked`` as code are older: there the
networks of all seeds were trained side by side, by a copy of the network that was made for the search and is not kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, command_of, write_csv
from nasrlm.bench.inputs import given, labels_of, networks, table_of
from nasrlm.bench.methods import Method, find
from nasrlm.bench.processes import pin_threads
from nasrlm.bench.protocol import Protocol, draw
from nasrlm.metrics import kendall_tau

CSV = RESULTS / "recipe_trials.csv"
FOLDER = RUNS / "kendall_tau"
#: The benchmark reports the seeds 0, 1, …; these are far from them.
FIRST_SEED = 100
KEYS = ["code", "method", "variant", "table", "metric", "n_labels", "first_seed", "seeds"]
#: Processes that read neither genes nor how often each operation occurs at each of its shapes.
COUNTS_ALONE: Mapping[str, object] = {
    "teaching.genes": False,
    "teaching.shaped": False,
    "teaching.least_noise": 0.05,
}
#: Variants of every graph network.
READINGS: Mapping[str, Mapping[str, object]] = {
    "standing": {},
    "whole_graph": {"reading.graph": "full"},
}
#: Settings that a variant changes, by method; ``standing`` is what the benchmark runs, ``before`` what it ran first.
VARIANTS: dict[str, Mapping[str, Mapping[str, object]]] = {
    "gcn": READINGS,
    "gin": READINGS,
    "gat": READINGS,
    "mlp": READINGS,
    "gp": {
        "standing": {},
        "shaped": {"training.shaped": True, "training.least_noise": 0.001},
        "unshaped": {"training.shaped": False, "training.least_noise": 0.05},
        "shaped_alone": {"training.genes": False, "training.shaped": True, "training.least_noise": 0.001},
    },
    "flan": {
        **READINGS,
        "before": {"reading.dead": "keep", "model.readout": "output"},
        "dead_kept": {"reading.dead": "keep"},
        "dead_dropped": {"reading.dead": "drop"},
        "sizes": {"reading.sizes": True},
        "no_sizes": {"reading.sizes": False},
        "output": {"model.readout": "output"},
        "mean": {"model.readout": "mean"},
        "both": {"model.readout": "both"},
        "output_sizes": {"model.readout": "output", "reading.sizes": True},
        "flow_only": {"model.attention": False},
        "one_step": {"model.timesteps": 1},
        "batch_8": {"training.batch_size": 8},
        "batch_16": {"training.batch_size": 16},
        "batch_32": {"training.batch_size": 32},
        "batch_32_fast": {"training.batch_size": 32, "training.learning_rate": 2e-3},
        "epochs_600": {"training.epochs": 600},
    },
    "rlm_tokens": {
        "standing": {},
        "before": {
            "training.smoothing": 0.02,
            "training.ranking": 1.0,
            "training.orders": 1,
            "model.dropout": 0.2,
            "model.flow": False,
            "model.mean_heads": 0,
        },
        "no_flow": {"model.flow": False},
        "attending": {"model.mean_heads": 0},
        "half_attending": {"model.mean_heads": 3},
        "ranking_10": {"training.ranking": 10.0},
        "one_order": {"training.orders": 1},
        "sharp": {"training.smoothing": 0.02},
        "ranking_1": {"training.ranking": 1.0},
        "ranking_30": {"training.ranking": 30.0},
        "dropout_0": {"model.dropout": 0.0},
        "dropout_20": {"model.dropout": 0.2},
    },
    "rlm_scratch": {
        "standing": {},
        "no_ways": {"model.ways": False},
        "inlined": {"model.ways": False, "reading.functions": "repeated"},
        "quantile": {"model.ways": False, "training.ranking": 100.0, "training.ranking_by": "quantile"},
        "before": {
            "model.ways": False,
            "model.dropout": 0.1,
            "reading.functions": "repeated",
            "training.ranking": 100.0,
            "training.ranking_by": "quantile",
        },
    },
    "rlm": {
        "standing": {},
        "unanchored": {"training.anchor": 0.0},
        "unshrunk": {"start.shrink": 1.0},
        "halved": {"start.shrink": 0.5},
        "unanchored_halved": {"training.anchor": 0.0, "start.shrink": 0.5},
        "by_name": {"start.blend": 0.0},
        "unranked": {"training.ranking": 0.0, "teaching.pool_ranking": 0.0},
        "ranking_3": {"training.ranking": 3.0},
        "counts_alone": COUNTS_ALONE,
        "unshaped": {"teaching.shaped": False},
        "pool_ranking_3": {"teaching.pool_ranking": 3.0, "teaching.pool_smoothing": 0.1},
        "shrinks": {"teaching.trust_folds": 4, "teaching.shrinks": (0.7,)},
        "stacked": {"teaching.trust_folds": 4, "teaching.stacked": True},  # of less than 256 labels; else standing
        "by_parts": {"teaching.leave_one_out": False},
        "calm": {"teaching.calm": True},
        "unstacked": {"teaching.stacked": False},
        "short_fits": {"teaching.trust_epochs": 1 / 3},
    },
    "rlm_alone": {"standing": {}},
}


def main() -> None:
    """Run the variants asked for, write a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=VARIANTS, default="flan")
    parser.add_argument("--variants", default="", help="comma-separated; all of the method by default")
    parser.add_argument("--table", default="nasbench201")
    parser.add_argument("--metric", default="cifar10_test")
    parser.add_argument("--labels", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=10, help="draws of labels")
    parser.add_argument("--test", type=int, default=2000, help="networks to judge by, those of a draw")
    options = parser.parse_args()
    pin_threads()
    protocol = Protocol(options.table, (options.metric,), (options.labels,), options.seeds, options.test)
    variants = VARIANTS[options.method]
    for name in options.variants.split(",") if options.variants else variants:
        if name not in variants:
            parser.error(f"--variants {name}: choose from {', '.join(variants)}")
        standing = find(options.method)
        method = changed(standing, variants[name])
        begin = time.process_time()
        taus = [tau_of(method, protocol, FIRST_SEED + k) for k in range(options.seeds)]
        row: dict[str, object] = {
            "code": "benchmark",
            "method": options.method,
            "variant": name,
            "table": options.table,
            "metric": options.metric,
            "n_labels": options.labels,
            "settings": json.dumps(method.chosen(table_of(protocol, FOLDER), protocol.metrics, options.labels)),
            "first_seed": FIRST_SEED,
            "seeds": len(taus),
            "test": options.test,
            "kendall_tau": round(float(np.mean(taus)), 4),
            "standard_error": round(float(np.std(taus, ddof=1) / len(taus) ** 0.5), 4) if len(taus) > 1 else np.nan,
            "each": " ".join(f"{tau:.3f}" for tau in taus),
            "cpu_seconds_a_run": round((time.process_time() - begin) / len(taus), 1),
        }
        write_row(row)
        print(row, flush=True)


def changed(method: Method, settings: Mapping[str, object]) -> Method:
    """``method`` with other ``settings``, which also go before those for a number of labels or kind of metric."""
    sized, quality = method.sized, {**method.quality, **settings}
    return replace(method, quality=quality, sized=lambda size: {**(sized(size) if sized else {}), **settings})


class Trial(NamedTuple):
    """One fit.

    Attributes:
        truth: Labels of the test networks, ``(n,)``.
        predicted: What was predicted of them, ``(n,)``.
        cpu_seconds: Of fitting.
    """

    truth: np.ndarray
    predicted: np.ndarray
    cpu_seconds: float

    @classmethod
    def of(cls, method: Method, protocol: Protocol, seed: int, *, fit: int = 0) -> Self:
        """Fit ``method`` to the draw of ``seed``; further fits of the same draw differ in the method's own seed."""
        table, metric = table_of(protocol, FOLDER), protocol.metrics[0]
        rows = draw(table, protocol, metric, protocol.sizes[0], seed)
        surrogate = method.create(table, protocol.metrics, len(rows.train), seed + 1000 * fit)
        labels = labels_of(table, method, [metric], rows.train)
        weights = method.weights(table)
        how: dict[str, Any] = {"metric_weights": weights} if weights else {}
        begin = time.process_time()
        surrogate.fit(networks(table, rows.train), labels, **how)
        seconds = time.process_time() - begin
        predicted = surrogate.predict(networks(table, rows.test), [metric], given(table, method, rows.test))
        return cls(table.frame[metric].to_numpy(dtype=float)[rows.test], predicted.mean[:, 0], seconds)


def tau_of(method: Method, protocol: Protocol, seed: int) -> float:
    """Kendall tau of one fit; 0 for constant predictions."""
    trial = Trial.of(method, protocol, seed)
    return float(np.nan_to_num(kendall_tau(trial.truth, trial.predicted)))


def write_row(row: Mapping[str, object]) -> None:
    """Add ``row`` to the log in place of an older one of the same ``KEYS``."""
    made = pd.DataFrame([dict(row)])
    if CSV.exists():
        old = pd.read_csv(CSV)
        if "metric" not in old:
            old.insert(list(old).index("table") + 1, "metric", "cifar10_test")
        same = (old[KEYS] == made[KEYS].iloc[0]).all(axis=1)
        made = pd.concat([old[~same], made], ignore_index=True)
    write_csv(CSV, made, command=command_of("experiments.recipe_trials"), seed=FIRST_SEED)


if __name__ == "__main__":
    main()
