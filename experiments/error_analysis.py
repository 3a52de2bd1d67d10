"""Where surrogates go wrong: which networks they misorder, what these have in common, and whether others do, too.

    python -m experiments.kendall_tau --methods rlm,flan,gat,gp --spaces nasbench201,nasbench101    # makes the runs
    python -m experiments.error_analysis
    python -m experiments.error_analysis --methods rlm,gp --tables nasbench201:eyeriss_latency_ms

Reads the predictions of the benchmark under ``runs/kendall_tau`` and fits nothing. For every draw of labels that all
methods have a run on it takes the error of a network to be its predicted rank less the mean predicted rank of networks
that are as good: a ranking that is merely uncertain shrinks towards the middle, which is no trait of a network. Writes
to ``results/error_analysis.md``, as means over draws, Kendall tau of all networks and within the worst quarter, the
middle half and the best quarter by true value, and of all as if equal predictions were told apart by lot, since tau-b
charges less for a tie than for an error; the free targets (``surrogates.free_targets``) that the errors correlate with
most among networks that are as good; and the correlation of errors between methods, to which the noise of the labels
adds. ``results/error_analysis.csv`` holds the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats

from experiments.grids import core
from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, as_markdown, command_of, provenance, write_csv
from nasrlm.bench.inputs import networks, table_of
from nasrlm.bench.methods import find
from nasrlm.bench.protocol import Protocol, Task
from nasrlm.bench.store import Store
from nasrlm.labels.names import metric as described
from nasrlm.labels.tables import LabelTable
from nasrlm.metrics import kendall_tau
from search_spaces.errors import DataNotFoundError, UsageError
from surrogates.free_targets import free_targets
from surrogates.rlm.distillation import tau_by_lot

FOLDER = RUNS / "kendall_tau"
PAGE = RESULTS / "error_analysis.md"
#: Parts of the networks by their true value, as shares.
PARTS = {"worst quarter": (0.0, 0.25), "middle half": (0.25, 0.75), "best quarter": (0.75, 1.0), "all": (0.0, 1.0)}
#: Of all networks, if the method told apart by lot what it gives equal values.
BY_LOT = "all, ties by lot"
#: Networks whose properties are counted, and properties that are named.
COUNTED, NAMED = 2000, 3
#: Parts by their true value within which networks count as equally good.
EQUAL = 50
KEYS = ["table", "metric", "n_labels"]


def main() -> None:
    """Read the runs, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="rlm,flan,gat,gp")
    parser.add_argument(
        "--tables", default="nasbench201,nasbench101", help="table or table:metric; its first metric by default"
    )
    options = parser.parse_args()
    methods, asked = options.methods.split(","), list(dict.fromkeys(map(looked_at, options.tables.split(","))))
    rows = [row for one, metric in asked for size in one.sizes for row in analysed(one, metric, size, methods)]
    if not rows:
        tables = ",".join(dict.fromkeys(one.table for one, _ in asked))
        raise DataNotFoundError(
            f"{FOLDER} holds no draw of labels that all of {', '.join(methods)} have predictions for; run "
            f"`python -m experiments.kendall_tau --methods {options.methods} --spaces {tables}` here first"
        )
    found = pd.DataFrame(rows)
    command = command_of("experiments.error_analysis")
    write_csv(PAGE.with_suffix(".csv"), found, command=command, seed=None)
    PAGE.write_text(page(found) + "\n" + as_markdown(provenance(command, seed=None)), encoding="utf-8")
    print(page(found))


def looked_at(name: str) -> tuple[Protocol, str]:
    """The protocol of the benchmark and the metric that ``table`` or ``table:metric`` names.

    Raises:
        UsageError: The benchmark has no such table, or asks nothing of such a metric of it.
    """
    every = {protocol.table: protocol for protocol in core()}
    table, _, metric = name.partition(":")
    if table not in every:
        raise UsageError(f"--tables {name}: choose from {', '.join(every)}")
    if metric and metric not in every[table].metrics:
        raise UsageError(f"--tables {name}: choose from {', '.join(every[table].metrics)}")
    return every[table], metric or every[table].metrics[0]


def analysed(protocol: Protocol, metric: str, size: int, methods: Sequence[str]) -> list[dict[str, object]]:
    """All figures of one budget: means over the draws that every method has predictions for; none without such."""
    store, table = Store(FOLDER), table_of(protocol, FOLDER)
    figures: list[dict[str, object]] = []
    seeds = [
        seed
        for seed in range(protocol.seeds)
        if all(complete(store, Task(protocol, (metric,), method, size, seed), table) for method in methods)
    ]
    for seed in seeds:
        sign = 1.0 if described(metric).direction == "max" else -1.0  # the best is what costs least
        truth = sign * store.truth(protocol, metric, size, seed)
        test = store.draw(table, protocol, metric, size, seed).test
        guesses = {m: sign * store.predictions(protocol, metric, size, seed, m).mean.astype(float) for m in methods}
        chosen = np.random.default_rng([seed, 8]).permutation(len(test))[:COUNTED]
        properties = free_targets(networks(table, test[chosen]))
        for kind, method, subject, value in figures_of(truth, guesses, chosen, properties):
            figures.append({"kind": kind, "method": method, "subject": subject, "value": value})
    if not figures:
        return []
    means = pd.DataFrame(figures).groupby(["kind", "method", "subject"], sort=False)["value"].mean().round(4)
    key = {**dict(zip(KEYS, (protocol.table, metric, size), strict=True)), "draws": len(seeds)}
    return [{**key, **{str(k): v for k, v in row.items()}} for row in means.reset_index().to_dict("records")]


def complete(store: Store, task: Task, table: LabelTable) -> bool:
    """Whether a run by today's settings is here with its predictions: one that was taken over has none."""
    return store.done(task, find(task.method).identity(table, task.metrics, task.size), predictions=True)


def figures_of(
    truth: np.ndarray, guesses: dict[str, np.ndarray], chosen: np.ndarray, properties: pd.DataFrame
) -> list[tuple[str, str, str, float]]:
    """Kind, method, subject and value of every figure of one draw.

    Args:
        truth: True values, ``(t,)``.
        guesses: By method, ``(t,)``.
        chosen: Networks whose ``properties`` are known, a row each.
        properties: Numbers of a network.
    """
    place = ranks(truth)
    errors = {method: apart(ranks(guess), place) for method, guess in guesses.items()}
    figures = []
    for method, guess in guesses.items():
        for part, (low, high) in PARTS.items():
            rows = (place >= low) & (place <= high)
            figures.append(("tau", method, part, float(np.nan_to_num(kendall_tau(truth[rows], guess[rows])))))
        figures.append(("tau", method, BY_LOT, tau_by_lot(truth, guess)))
        for name in properties:
            values = apart(ranks(properties[name].to_numpy()), place[chosen])
            if np.ptp(values):
                figures.append(("property", method, str(name), correlation(values, errors[method][chosen])))
        for other in guesses:
            figures.append(("shared", method, other, correlation(errors[method], errors[other])))
    return figures


def apart(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """``values`` less their mean among the networks of about the same ``place``, in ``EQUAL`` parts."""
    part = np.minimum((place * EQUAL).astype(int), EQUAL - 1)
    counts = np.maximum(np.bincount(part, minlength=EQUAL), 1)
    return np.asarray(values - (np.bincount(part, values, minlength=EQUAL) / counts)[part])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where either does not vary."""
    if not np.ptp(one) or not np.ptp(other):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in [0, 1]; equal values share theirs."""
    return np.asarray((scipy.stats.rankdata(values) - 1) / max(1, len(values) - 1))


def page(found: pd.DataFrame) -> str:
    """The tables as Markdown."""
    lines = ["# Where surrogates go wrong", ""]
    for keys, part in found.groupby(KEYS, sort=False):
        table, metric, size = keys
        lines += [f"## {table}, `{metric}`, {size} labels ({part['draws'].iloc[0]} draws)", ""]
        tau, shared = (part[part["kind"] == kind] for kind in ("tau", "shared"))
        others = list(shared["subject"].unique())
        header = [
            "method",
            *(f"tau, {name}" for name in (*PARTS, BY_LOT)),
            "errors go with",
            *(f"shared: {o}" for o in others),
        ]
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        for method in part["method"].unique():
            taus = tau[tau["method"] == method].set_index("subject")["value"]
            same = shared[shared["method"] == method].set_index("subject")["value"]
            cells = [
                *(f"{taus[name]:.3f}" for name in (*PARTS, BY_LOT)),
                strongest(part[(part["kind"] == "property") & (part["method"] == method)]),
                *(f"{same[other]:.2f}" for other in others),
            ]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def strongest(properties: pd.DataFrame) -> str:
    """The properties that errors correlate with most: positive where networks that have more are ranked too high."""
    order = properties["value"].abs().sort_values(ascending=False).index[:NAMED]
    return ", ".join(f"{row['subject']} {row['value']:+.2f}" for _, row in properties.loc[order].iterrows())


if __name__ == "__main__":
    main()
