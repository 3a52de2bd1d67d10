"""Does a test network gain from being among the fresh networks, which the language model reads without labels?

    python -m experiments.kendall_tau --methods rlm,gp --spaces nasbench201 --sizes 128    # makes the runs
    python -m experiments.fresh_networks

Where a space is small, test networks are among those that the recipe of ``rlm`` draws to carry labels further
(``docs/pretraining.md``), without their labels; no other kind of method reads them. Reads the predictions of the
benchmark under ``runs/kendall_tau`` and fits nothing. ``results/fresh_networks.csv`` has a row a metric and number of
labels: the share of the test networks that read like a fresh one (functionally identical ones for an accuracy; for what
a device measured, which dead operations touch, only the same ones), Kendall tau of the method among these and among all
others, the same of ``--other``, which reads no fresh networks, and ``gain``, by how much more the method's tau falls
from the former to the latter than the other's: some networks are harder to order. All are means over the draws that
both have predictions for; ``half`` is half the 95 % t-interval of the gain. Rows of other metrics and numbers of labels
stay, if they are of the same two methods.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from experiments.error_analysis import complete
from experiments.grids import core
from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, command_of, read_rows, write_csv
from nasrlm.bench.inputs import networks, table_of
from nasrlm.bench.methods import find
from nasrlm.bench.protocol import Protocol, Task
from nasrlm.bench.store import Store
from nasrlm.bench.summary import Interval
from nasrlm.labels.names import metric as described
from nasrlm.labels.tables import LabelTable
from nasrlm.metrics import kendall_tau
from search_spaces.base import Architecture
from search_spaces.errors import DataNotFoundError, UsageError
from search_spaces.networks import sample_networks

FOLDER = RUNS / "kendall_tau"
CSV = RESULTS / "fresh_networks.csv"
KEYS = ["table", "metric", "n_labels"]
#: Test networks of either kind below which a draw tells nothing.
LEAST = 50


def main() -> None:
    """Read the runs, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="nasbench201,nasbench_macro,transnas_micro")
    parser.add_argument("--sizes", default="128", help="numbers of labels")
    parser.add_argument("--method", default="rlm", help="a method that reads fresh networks")
    parser.add_argument("--other", default="gp", help="one that reads none")
    options = parser.parse_args()
    methods, known = (options.method, options.other), {protocol.table: protocol for protocol in core()}
    if unknown := set(options.tables.split(",")) - set(known):
        raise UsageError(f"--tables {','.join(sorted(unknown))}: choose from {', '.join(known)}")
    protocols = [known[name] for name in options.tables.split(",")]
    sizes = [int(size) for size in options.sizes.split(",")]
    rows = [
        row for one in protocols for name in one.metrics for size in sizes for row in compared(one, name, size, methods)
    ]
    if not rows:
        raise DataNotFoundError(
            f"{FOLDER} holds no draw of labels that {' and '.join(methods)} have predictions for; run `python -m "
            f"experiments.kendall_tau --methods {','.join(methods)} --spaces {options.tables}` here first"
        )
    found = together(read_rows(CSV, KEYS), pd.DataFrame(rows))
    write_csv(CSV, found, command=command_of("experiments.fresh_networks"), seed=None)
    print(found.to_string(index=False))


def together(before: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """``found`` after those rows of ``before`` that it does not measure anew; it alone where columns differ."""
    if list(before) != list(found):
        return found
    other = ~before.set_index(KEYS).index.isin(found.set_index(KEYS).index)
    return pd.concat([before[other], found], ignore_index=True)


def compared(protocol: Protocol, metric: str, size: int, methods: Sequence[str]) -> list[dict[str, Any]]:
    """The row of one metric and number of labels; none where no draw tells."""
    store, table = Store(FOLDER), table_of(protocol, FOLDER)
    draws = []
    for seed in range(protocol.seeds):
        if not all(complete(store, Task(protocol, (metric,), method, size, seed), table) for method in methods):
            continue
        among = among_fresh(table, protocol, metric, size, seed, methods[0])
        if min(among.sum(), (~among).sum()) < LEAST:
            continue
        truth = store.truth(protocol, metric, size, seed)
        guesses = [store.predictions(protocol, metric, size, seed, method).mean for method in methods]
        draws.append(
            [among.mean(), *(kendall_tau(truth[rows], guess[rows]) for guess in guesses for rows in (among, ~among))]
        )
    if not draws:
        return []
    share, *taus = np.array(draws).T
    gain = Interval.of((taus[0] - taus[1]) - (taus[2] - taus[3]))
    one, other = methods
    names = ("share", f"{one}_fresh", f"{one}_not", f"{other}_fresh", f"{other}_not")
    means = {name: round(float(values.mean()), 4) for name, values in zip(names, (share, *taus), strict=True)}
    keys = {"table": protocol.table, "metric": metric, "n_labels": size, "draws": len(draws)}
    return [{**keys, **means, "gain": round(gain.mean, 4), "half": round(gain.half, 4)}]


def among_fresh(table: LabelTable, protocol: Protocol, metric: str, size: int, seed: int, method: str) -> np.ndarray:
    """Which test networks read like one that ``method`` reads without its label, ``(n,)``.

    Raises:
        UsageError: The method reads no such networks.
    """
    pool = cast(int, find(method).chosen(table, (metric,), size).get("teaching.pool", 0))
    if not pool:
        raise UsageError(f"--method {method} reads no fresh networks with {size} labels")
    rows = Store(FOLDER).draw(table, protocol, metric, size, seed)
    known, test = networks(table, rows.train), networks(table, rows.test)
    fresh = sample_networks(known.space, pool, seed=seed, known=known.architectures)
    read: Callable[[Architecture], object] = (
        known.space.format if described(metric).counts_dead else known.space.canonical
    )
    seen = set(map(read, fresh.architectures))
    return np.array([read(one) in seen for one in test.architectures])


if __name__ == "__main__":
    main()
