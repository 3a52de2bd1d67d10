"""By how much do two methods of the benchmark differ on the same draws of labels? From the committed runs, in seconds.

    python -m experiments.paired_differences                                          # all pairs that the docs speak of
    python -m experiments.paired_differences --pairs core:flan:gat --out runs/pairs.csv

``results/kendall_tau.md`` compares every method with the best one. Here it is one method with one other: with its start
from free targets alone, from scratch, one model of five metrics with five models. A pair is ``GRID:METHOD:OTHER`` and
reads ``results/kendall_tau[_GRID].parquet``. ``results/paired_differences.csv`` has a row a pair, table, metric and
number of labels: over the draws that both have, the mean of METHOD minus OTHER, in Kendall tau and in Spearman rho, and
half its 95 % t-interval (empty for one draw).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from experiments.grids import results_name
from experiments.record import RESULTS, command_of, write_csv
from nasrlm.bench.summary import KEYS, Interval
from search_spaces.errors import UsageError

CSV = RESULTS / "paired_differences.csv"
#: What README and docs speak of.
PAIRS = (
    *(f"core:rlm:{other}" for other in ("flan", "flan_zcp", "gat", "gp", "rlm_free", "rlm_tokens")),
    *(f"joint:rlm_joint:{other}" for other in ("rlm", "gp")),
)
SCORES = {"tau": "kendall_tau", "rho": "spearman_rho"}


def main() -> None:
    """Compare, write the rows, and print what a pair comes to over all points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(PAIRS), help="GRID:METHOD:OTHER, comma-separated")
    parser.add_argument("--runs", type=Path, default=RESULTS, help="folder of the grids' parquet files")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    parts = [compared(options.runs, pair) for pair in options.pairs.split(",")]
    rows = pd.concat(parts, ignore_index=True)
    write_csv(options.out, rows, command=command_of("experiments.paired_differences"), seed=None)
    print(rows.to_string(index=False))
    for pair, part in rows.groupby(["grid", "method", "other", "n_labels"], sort=False):
        certain = part["tau"].abs() > part["tau_half"]
        ahead, behind = (int((certain & (part["tau"] * sign > 0)).sum()) for sign in (1, -1))
        print(*pair, f"labels: tau {part['tau'].mean():+.3f} over {len(part)} metrics, {ahead} ahead, {behind} behind")


def compared(folder: Path, pair: str) -> pd.DataFrame:
    """The rows of one pair.

    Raises:
        UsageError: ``pair`` is no ``GRID:METHOD:OTHER``, the grid or a method has no runs, or they share no draw.
    """
    if pair.count(":") != 2:
        raise UsageError(f"--pairs {pair}: a pair is GRID:METHOD:OTHER, such as {PAIRS[0]}")
    grid, method, other = pair.split(":")
    path = folder / f"{results_name(grid)}.parquet"
    if not path.is_file():
        raise UsageError(f"--pairs {pair}: {path} is not there; run python -m experiments.kendall_tau --grid {grid}")
    runs = pd.read_parquet(path, columns=[*KEYS, "method", "seed", *SCORES.values()])
    known = sorted(runs["method"].unique())
    if unknown := {method, other} - set(known):
        raise UsageError(f"--pairs {pair}: no runs of {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    rows = []
    for keys, part in runs.groupby(KEYS, sort=False):
        scores = part.set_index(["method", "seed"])[list(SCORES.values())]
        if not {method, other} <= set(part["method"]):
            continue
        gaps = (scores.loc[method] - scores.loc[other]).dropna()
        if gaps.empty:
            continue
        row: dict[str, object] = {"grid": grid, "method": method, "other": other, **dict(zip(KEYS, keys, strict=True))}
        row["draws"] = len(gaps)
        for short, score in SCORES.items():
            gap = Interval.of(gaps[score])
            row |= {short: round(gap.mean, 4), f"{short}_half": round(gap.half, 4)}
        rows.append(row)
    if not rows:
        raise UsageError(f"--pairs {pair}: {method} and {other} have run on no draw both; compare others")
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
