"""Means over seeds with their intervals, and which methods are as good as the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike

from nasrlm.bench.protocol import Protocol
from nasrlm.bench.store import Store

#: What a cell of the summary is about.
KEYS = ["table", "metric", "n_labels"]
TIMES = ["train_seconds", "train_cpu_seconds", "queries_per_second"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the half width of its 95 % t-interval (NaN for one seed)."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: ArrayLike) -> Interval:
        """The interval of the mean of ``values``, one a seed."""
        array = np.asarray(values, dtype=float)
        if len(array) < 2:
            return cls(float(array.mean()), float("nan"))
        half = scipy.stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
        return cls(float(array.mean()), float(half))


def summarise(runs: pd.DataFrame, protocols: Sequence[Protocol], store: Store) -> pd.DataFrame:
    """One row a table, metric, budget and method.

    ``behind`` is the mean over seeds of the best method's tau minus this one's on the same test networks, with the 95 %
    interval of the paired bootstrap over test networks (``behind_low``, ``behind_high``) and the half width of the
    paired t-interval over seeds (``behind_half``). ``rank`` is ``best``, ``tied`` where either interval holds 0, or
    empty: a lead counts when it holds on other test networks and, from three seeds on, on other training labels.

    Times are those of the runs on ``usual_machine``.

    Args:
        runs: All finished runs, one row each.
        protocols: What they are runs of.
        store: Has their bootstrap samples.
    """
    by_table = {protocol.table: protocol for protocol in protocols}
    if (machine := usual_machine(runs)) and len(runs):
        runs = runs.copy()
        runs.loc[runs["machine"] != machine, TIMES] = np.nan
    rows = []
    for _, group in runs.groupby(KEYS, sort=False):
        key = _key(group)
        protocol = by_table[key[0]]
        taus = {str(name): part.set_index("seed")["kendall_tau"] for name, part in group.groupby("method", sort=False)}
        best = best_of(taus)
        for name, part in group.groupby("method", sort=False):
            tau, rho = Interval.of(part["kendall_tau"]), Interval.of(part["spearman_rho"])
            row: dict[str, object] = {
                **dict(zip(KEYS, key, strict=True)),
                "space": part["space"].iloc[0],
                "method": name,
                "seeds": len(part),
                "kendall_tau": tau.mean,
                "tau_half": tau.half,
                "spearman_rho": rho.mean,
                "rho_half": rho.half,
                "train_seconds": part["train_seconds"].median(),
                "train_cpu_seconds": part["train_cpu_seconds"].median(),
                "queries_per_second": part["queries_per_second"].median(),
                **{c: part[c].mean() for c in map(str, part) if c.startswith("coverage_")},
            }
            rows.append(row | _behind(store, protocol, key, best, str(name), taus))
    return pd.DataFrame(rows)


def best_of(taus: Mapping[str, pd.Series]) -> str:
    """The method with the highest mean over the seeds that all methods have: draws of labels are easy or hard.

    Where they share none, the best of those with the most seeds.

    Args:
        taus: Kendall tau by seed, of every method.
    """
    shared = sorted(set.intersection(*(set(series.index) for series in taus.values())))
    if shared:
        return max(taus, key=lambda name: float(taus[name].loc[shared].mean()))
    most = max(map(len, taus.values()))
    return max((name for name in taus if len(taus[name]) == most), key=lambda name: float(taus[name].mean()))


def usual_machine(runs: pd.DataFrame) -> str:
    """The machine that most of ``runs`` were made on; empty if none says so. Times of two machines do not compare."""
    known = runs["machine"].dropna() if "machine" in runs else pd.Series(dtype=str)
    return str(known.mode().iloc[0]) if len(known) else ""


def _key(group: pd.DataFrame) -> tuple[str, str, int]:
    first = group.iloc[0]
    return str(first["table"]), str(first["metric"]), int(first["n_labels"])


def _behind(
    store: Store, protocol: Protocol, key: tuple[str, str, int], best: str, name: str, taus: dict[str, pd.Series]
) -> dict[str, object]:
    if name == best:
        return {"behind": 0.0, "behind_low": 0.0, "behind_high": 0.0, "behind_half": 0.0, "rank": "best"}
    _, metric, size = key
    lead = (taus[best] - taus[name]).dropna()
    if lead.empty:
        return {"rank": ""}
    leads = []
    for seed in map(int, lead.index):
        one, other = (store.predictions(protocol, metric, size, seed, m).resampled for m in (best, name))
        leads.append(one - other)
    low, high = np.percentile(np.mean(leads, axis=0), (2.5, 97.5))
    over_seeds = Interval.of(lead)
    # Two seeds say next to nothing of other training labels: there the bootstrap decides alone.
    certain = low > 0 and (len(lead) < 3 or over_seeds.mean > over_seeds.half)
    return {
        "behind": over_seeds.mean,
        "behind_low": float(low),
        "behind_high": float(high),
        "behind_half": over_seeds.half,
        "rank": "" if certain else "tied",
    }
