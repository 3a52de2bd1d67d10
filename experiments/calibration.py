"""Do intervals hold what they promise? Coverage on every space of the benchmark, with and without calibration.

    python -m experiments.calibration                                       # hours on one core; resumes
    python -m experiments.calibration --tables nasbench201 --sizes 128 --seeds 1

A method of the benchmark that is a language model is fitted with ``CalibrationConfig.folds``: labels that are set aside
in turn say how wide intervals must be (``surrogates/rlm/calibration.py``); ``--folds 0`` leaves it at what the method
does by itself. ``results/calibration.csv`` has a row a table, metric, number of labels and seed: the share of test
networks inside the central 50, 80 and 90 % intervals, ``raw`` as the model gives them and calibrated, and the spread
that was learned.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.grids import core
from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, command_of, print_of, read_rows, write_csv
from nasrlm.bench.inputs import graphs, networks, table_of
from nasrlm.bench.methods import find
from nasrlm.bench.processes import pin_threads
from nasrlm.bench.protocol import Protocol, draw
from nasrlm.bench.summary import Interval
from nasrlm.metrics import interval_coverage, kendall_tau
from search_spaces.errors import UsageError
from surrogates.base import Prediction
from surrogates.rlm import RLM

CSV = RESULTS / "calibration.csv"
FOLDER = RUNS / "kendall_tau"
SHARES = (0.5, 0.8, 0.9)
KEYS = ["table", "metric", "method", "settings", "folds", "n_labels", "seed"]


def main() -> None:
    """Run what is missing, then print the coverage of every metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="rlm")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--tables", default="", help="comma-separated; all of the core grid by default")
    parser.add_argument("--sizes", default="128,512")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start nothing after so long")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    pin_threads()
    done = read_rows(options.out, KEYS, texts=["settings"])
    known = set(map(tuple, done[KEYS].to_numpy().tolist()))
    deadline = time.monotonic() + 60 * options.time_limit
    for protocol, metric, size, seed in planned(options.tables, options.sizes, options.seeds):
        settings = settings_of(protocol, metric, options.method, size)
        if (protocol.table, metric, options.method, settings, options.folds, size, seed) in known:
            continue
        if options.time_limit and time.monotonic() > deadline:
            break
        row = run(protocol, metric, options.method, options.folds, size, seed)
        done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
        write_csv(options.out, done, command=command_of("experiments.calibration"), seed=0)
        print(row, flush=True)
    print(summary(done).to_string(index=False))


def planned(tables: str, sizes: str, seeds: int) -> list[tuple[Protocol, str, int, int]]:
    """All runs, the first seed of every metric first.

    Raises:
        UsageError: A table that the core grid has not.
    """
    every = {protocol.table: protocol for protocol in core()}
    wanted = tables.split(",") if tables else list(every)
    if unknown := set(wanted) - set(every):
        raise UsageError(f"--tables {','.join(sorted(unknown))}: choose from {', '.join(every)}")
    return [
        (every[table], metric, int(size), seed)
        for seed in range(seeds)
        for size in sizes.split(",")
        for table in wanted
        for metric in every[table].metrics
    ]


def settings_of(protocol: Protocol, metric: str, name: str, size: int) -> str:
    """A hash of all that a fit depends on: rows of other settings are other runs."""
    return print_of(find(name).identity(table_of(protocol, FOLDER), [metric], size))


def run(protocol: Protocol, metric: str, name: str, folds: int, size: int, seed: int) -> dict[str, object]:
    """Fit once with and judge with and without calibration.

    Raises:
        UsageError: The method is no language model, or one that is given proxies.
    """
    method, table = find(name), table_of(protocol, FOLDER)
    rows = draw(table, protocol, metric, size, seed)
    labels = table.frame[[metric]].iloc[rows.train].reset_index(drop=True)
    surrogate = method.create(table, [metric], size, seed)
    if not isinstance(surrogate, RLM) or method.prefix:
        raise UsageError(f"--method {name}: only language models that read nothing but networks are judged here")
    surrogate.calibration = replace(surrogate.calibration, folds=folds)
    begin = time.process_time()
    surrogate.fit(networks(table, rows.train), labels)
    seconds = time.process_time() - begin
    test = graphs(table, method, [metric], rows.test, FOLDER)
    truth = table.frame[metric].to_numpy(dtype=float)[rows.test]
    calibrated, spread = surrogate.predict(test), surrogate.spreads[0]
    surrogate.spreads = (1.0,)
    return {
        "table": protocol.table,
        "metric": metric,
        "method": name,
        "settings": settings_of(protocol, metric, name, size),
        "folds": folds,
        "n_labels": size,
        "seed": seed,
        "kendall_tau": round(float(np.nan_to_num(kendall_tau(truth, calibrated.mean[:, 0]))), 4),
        "spread": round(spread, 3),
        **{f"raw_{key}": value for key, value in coverage(truth, surrogate.predict(test)).items()},
        **coverage(truth, calibrated),
        "cpu_seconds": round(seconds, 1),
    }


def coverage(truth: np.ndarray, prediction: Prediction) -> dict[str, float]:
    """Share of ``truth`` inside the central intervals of ``SHARES``."""
    found = interval_coverage(truth, prediction.quantiles[:, 0], prediction.levels)
    return {f"coverage_{share:.0%}".rstrip("%"): round(found[share], 4) for share in SHARES}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean coverage of the 80 % interval by metric and number of labels, with its interval over seeds."""
    found = []
    names = [name for name in KEYS if name != "seed"]
    for keys, part in rows.groupby(names):
        interval = Interval.of(part["coverage_80"])
        found.append(
            {
                **dict(zip(names, keys, strict=True)),
                "seeds": len(part),
                "raw_80": round(part["raw_coverage_80"].mean(), 3),
                "coverage_80": round(interval.mean, 3),
                "half": round(interval.half, 3),
            }
        )
    return pd.DataFrame(found)


if __name__ == "__main__":
    main()
