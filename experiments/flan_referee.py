"""Is the FLAN-style baseline as good as FLAN? Its authors' few-shot figures against ours, from scratch.

    python -m experiments.flan_referee                    # 30 runs of the core grid, up to hours on one core; resumes
    python -m experiments.flan_referee --seeds 1          # seed 0 only

The protocol, and the runs in ``runs/kendall_tau``, are those of ``experiments.kendall_tau``: running one saves the
other. Theirs is the mean over their logs of Kendall tau with the *validation* accuracy (arXiv 2403.02484, public raw
logs), ours with the test accuracy. The difference is held against a tolerance of .02.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd

from experiments.grids import CORE
from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, write_csv
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Store
from nasrlm.bench.summary import Interval

COMMAND = "python -m experiments.flan_referee"
METRIC = "cifar10_test"
#: Kendall tau by table and number of labels, FLAN from scratch without zero-cost proxies.
PUBLISHED = {
    "nasbench201": {16: 0.676, 128: 0.785, 512: 0.877},
    "nasbench101": {16: 0.479, 128: 0.729, 512: 0.809},
}
TOLERANCE = 0.02


def main() -> None:
    """Run what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="flan", help="a method of the benchmark")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no run after so long")
    options = parser.parse_args()
    folder = RUNS / "kendall_tau"
    protocols = [
        replace(protocol, metrics=(METRIC,), seeds=options.seeds) for protocol in CORE if protocol.table in PUBLISHED
    ]
    todo = plan(protocols, [options.method], folder).tasks
    run_tasks(
        todo, folder, workers=options.workers, minutes=options.time_limit, report=lambda line: print(line, flush=True)
    )
    runs = pd.concat([Store(folder).runs(protocol) for protocol in protocols], ignore_index=True)
    found = compare(runs[runs["method"] == options.method])
    write_csv(RESULTS / "flan_referee.csv", found, command=COMMAND, seed=None)
    print(found.to_string(index=False))


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a table and budget: theirs, ours with its 95 % interval over seeds, the difference."""
    rows = []
    for (table, size), part in runs.groupby(["table", "n_labels"], sort=False):
        theirs, ours = PUBLISHED[str(table)][int(str(size))], Interval.of(part["kendall_tau"])
        rows.append(
            {
                "table": table,
                "n_labels": size,
                "seeds": len(part),
                "published": theirs,
                "kendall_tau": round(ours.mean, 4),
                "half_interval": round(ours.half, 4),
                "difference": round(ours.mean - theirs, 4),
                "within_tolerance": bool(ours.mean - theirs >= -TOLERANCE),
                "train_cpu_seconds": round(float(part["train_cpu_seconds"].median()), 1),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
