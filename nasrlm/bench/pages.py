"""The results as files: all runs, the summary as CSV and as a page of tables, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nasrlm.bench.ceiling import noise_ceiling
from nasrlm.bench.figures import learning_curves, scatter
from nasrlm.bench.inputs import table_of
from nasrlm.bench.methods import find
from nasrlm.bench.protocol import Protocol, joint_groups
from nasrlm.bench.store import Store, plain
from nasrlm.bench.summary import summarise, usual_machine
from search_spaces.errors import UnknownNameError

#: Columns of the table of runs, in order; coverage columns, settings and bootstrap samples follow.
RUN_COLUMNS = [
    "space",
    "table",
    "metric",
    "method",
    "n_labels",
    "seed",
    "kendall_tau",
    "spearman_rho",
    "train_seconds",
    "train_cpu_seconds",
    "queries_per_second",
    "test_networks",
    "joint",
    "test_limit",
    "labels",
    "machine",
]
LEGEND = (
    "Mean Kendall tau over seeds ± half the 95 % t-interval. **Bold** is best on the draws that all methods have run "
    "on; ≈ is not significantly behind: the paired bootstrap over test networks or the paired t-interval over seeds "
    "holds 0. `ceiling` is the agreement of functionally identical networks, which label noise sets."
)


@dataclass(frozen=True)
class Results:
    """What is known so far.

    Attributes:
        runs: One row a finished run.
        summary: One row a table, metric, budget and method.
        ceilings: Ceiling of (table, metric).
        failures: Failed runs and why, a line each.
        stale: Number of runs by earlier settings, which are left out.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    ceilings: dict[tuple[str, str], float]
    failures: list[str]
    stale: int = 0

    def records(self) -> list[dict[str, Any]]:
        """The summary in short, for printing."""
        shown = ["metric", "n_labels", "method", "seeds", "kendall_tau", "tau_half", "spearman_rho", "rank"]
        costs = ["train_seconds", "queries_per_second"]
        if self.summary.empty:
            return []
        ordered = self.summary.sort_values(
            ["table", "metric", "n_labels", "kendall_tau"], ascending=[True] * 3 + [False]
        )
        found: list[dict[str, Any]] = ordered[[*shown, *costs]].to_dict(orient="records")  # type: ignore[assignment]
        return found


def collect(protocols: Sequence[Protocol], methods: Sequence[str], folder: Path) -> Results:
    """Read all finished runs of ``methods`` under ``folder`` and summarise them; not those by earlier settings."""
    store = Store(folder)
    parts = [part for protocol in protocols if not (part := store.runs(protocol)).empty]
    runs = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=RUN_COLUMNS)
    runs = runs[runs["method"].isin(list(methods))].reset_index(drop=True)
    by_table = {protocol.table: protocol for protocol in protocols}
    current = np.array([is_current(run, by_table[run["table"]], folder) for run in runs.to_dict(orient="records")])
    stale = int((~current).sum()) if len(current) else 0
    runs = runs[current].reset_index(drop=True) if stale else runs
    failures = [line for protocol in protocols for line in store.failures(protocol)]
    ceilings = {
        (protocol.table, metric): noise_ceiling(table_of(protocol, folder), metric)
        for protocol in protocols
        for metric in protocol.metrics
    }
    return Results(runs, summarise(runs, protocols, store), ceilings, failures, stale)


def is_current(run: Mapping[Any, Any], protocol: Protocol, folder: Path) -> bool:
    """Whether a run is by the settings that its method has now; one of a method that is not installed counts."""
    try:
        method = find(run["method"])
    except UnknownNameError:
        return True
    table = table_of(protocol, folder)
    metrics: tuple[str, ...] = (run["metric"],)
    if method.joint:
        metrics = next(group for group in joint_groups(table, protocol.metrics) if run["metric"] in group)
    return bool(run["settings"] == plain(method.identity(table, metrics, run["n_labels"])))


def write_results(
    protocols: Sequence[Protocol],
    methods: Sequence[str],
    folder: Path,
    out: Path,
    *,
    name: str = "",
    facts: str = "",
    left_out: Sequence[str] = (),
    scatters: bool = True,
) -> Results:
    """Write ``runs.parquet``, ``summary.csv``, ``summary.md`` and the figures into ``out``.

    Args:
        protocols: What was run.
        methods: The methods to show.
        folder: Where the runs are.
        out: Where results go.
        name: Write ``<name>.parquet``, ``<name>.csv``, ``<name>.md`` and the figures into ``<name>/`` instead.
        facts: A list of facts (command, commit, machine) at the end of the page.
        left_out: What was not run and why, a line each.
        scatters: Draw predictions against true values, a figure a metric.
    """
    results = collect(protocols, methods, folder)
    out.mkdir(parents=True, exist_ok=True)
    extra = [column for column in map(str, results.runs) if column.startswith("coverage_")]
    kept = results.runs.reindex(columns=[*RUN_COLUMNS, *extra, "settings"])
    Store(folder).exported(kept, protocols).to_parquet(out / f"{name or 'runs'}.parquet", index=False)
    results.summary.round(5).to_csv(out / f"{name or 'summary'}.csv", index=False)
    page = out / f"{name or 'summary'}.md"
    page.write_text(markdown(results, protocols, left_out, facts), encoding="utf-8")
    figures = out / name if name else out
    for space in dict.fromkeys(results.runs["space"]):
        learning_curves(results.summary[results.summary["space"] == space], results.ceilings, figures / f"{space}.png")
    for protocol in protocols if scatters else ():
        scatter(results.summary, protocol, Store(folder), figures)
    return results


def markdown(results: Results, protocols: Sequence[Protocol], left_out: Sequence[str], facts: str) -> str:
    """The page: a table per metric, costs, what failed, facts."""
    lines = ["# Kendall tau of the surrogates", "", LEGEND, ""]
    for protocol in protocols:
        part = results.summary[results.summary["table"] == protocol.table] if len(results.summary) else results.summary
        for metric in protocol.metrics:
            own = part[part["metric"] == metric] if len(part) else part
            if len(own):
                lines += _metric_lines(own, protocol, metric, results.ceilings[protocol.table, metric])
    if len(results.summary):
        lines += _coverage_lines(results.summary)
        lines += _cost_lines(results.summary, usual_machine(results.runs))
    earlier = [f"{results.stale} runs by earlier settings of their methods, to be run again"] if results.stale else []
    for title, texts in (("Failed runs", results.failures), ("Not run", [*left_out, *earlier])):
        if texts:
            lines += [f"## {title}", "", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines) + (f"\n{facts}" if facts else "")


def _metric_lines(part: pd.DataFrame, protocol: Protocol, metric: str, ceiling: float) -> list[str]:
    sizes = sorted(part["n_labels"].unique())
    order = part.groupby("method")["kendall_tau"].mean().sort_values(ascending=False).index
    lines = [f"## {protocol.table}: `{metric}`", ""]
    if np.isfinite(ceiling):
        lines += [f"Ceiling {ceiling:.3f}.", ""]
    lines += [
        "| method | " + " | ".join(f"n = {size}" for size in sizes) + " | rho at the largest n |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for method in order:
        own = part[part["method"] == method].set_index("n_labels")
        cells = [_cell(own.loc[size]) if size in own.index else "–" for size in sizes]
        last = own.loc[sizes[-1]] if sizes[-1] in own.index else None
        rho = "–" if last is None else f"{last['spearman_rho']:.3f}" + _half(last["rho_half"])
        lines.append(f"| {method} | {' | '.join(cells)} | {rho} |")
    return [*lines, ""]


def _cell(row: pd.Series) -> str:
    text = f"{row['kendall_tau']:.3f}{_half(row['tau_half'])}"
    return {"best": f"**{text}**", "tied": f"{text} ≈"}.get(row["rank"], text)


def _half(value: float) -> str:
    return f" ± {value:.3f}" if np.isfinite(value) else ""


def _coverage_lines(summary: pd.DataFrame) -> list[str]:
    """Share of test networks inside the central 80 % interval, of every method that gives one."""
    known = summary.dropna(subset="coverage_80") if "coverage_80" in summary else summary.iloc[:0]
    if known.empty:
        return []
    sizes = sorted(known["n_labels"].unique())
    lines = [
        "## Intervals",
        "",
        "Share of the test networks inside the central 80 % interval: mean over a table's metrics and their draws.",
        "",
        "| method | table | " + " | ".join(f"n = {size}" for size in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    for (method, table), part in known.groupby(["method", "table"], sort=False):
        covered = part.groupby("n_labels")["coverage_80"].mean().reindex(sizes)
        lines.append(f"| {method} | {table} | " + " | ".join(_known(share, ".0%") for share in covered) + " |")
    return [*lines, ""]


def _cost_lines(summary: pd.DataFrame, machine: str) -> list[str]:
    """Median seconds of a fit and queries a second, by method and budget, over all tables."""
    lines = [
        "## Cost",
        "",
        "Medians over tables and seeds, one thread, processor seconds; networks read before are remembered."
        + (f" Of the runs on one machine ({machine})." if machine else ""),
        "",
    ]
    sizes = sorted(summary["n_labels"].unique())
    lines += [
        "| method | " + " | ".join(f"fit, n = {size} (s)" for size in sizes) + " | queries/s |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for name, part in summary.groupby("method", sort=False):
        seconds = part.groupby("n_labels")["train_cpu_seconds"].median()
        note = " (table values)" if find(str(name)).column else ""
        cells = [_known(seconds.get(size, np.nan), ".1f") for size in sizes]
        cells += [_known(part["queries_per_second"].median(), ",.0f")]
        lines.append(f"| {name}{note} | {' | '.join(cells)} |")
    return [*lines, ""]


def _known(value: float, form: str) -> str:
    """``value`` by ``form``; a dash where nothing was measured."""
    return format(value, form) if np.isfinite(value) else "–"
