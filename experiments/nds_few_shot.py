"""The published few-shot protocol on NDS: 16 labels of NASNet, Amoeba and PNAS, 100 of DARTS; their table and ours.

    nasrlm data import nds_darts data.zip                  # likewise nds_enas, nds_nasnet, nds_pnas, nds_amoeba
    python -m experiments.nds_few_shot --methods flops,xgboost_graph,gcn,flan,rlm

The official files are not part of the project (docs/data.md says where they are). All that was imported is run:
CIFAR-10 test accuracy, five draws, at most 5,000 test networks, none functionally identical to a training network. Our
methods learn from these labels alone, while the published ones were first pretrained jointly on the other spaces; the
number of labels that they saw of ENAS is not published, ours is 100. Writes ``results/nds_few_shot.csv``.
"""

from __future__ import annotations

import argparse

import pandas as pd

from experiments.grids import nds
from experiments.kendall_tau import RUNS
from experiments.record import RESULTS, command_of, write_csv
from nasrlm.bench.methods import METHODS
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Store
from nasrlm.bench.summary import Interval

#: Kendall tau after joint pretraining, "Regression Language Models for Code" (arXiv 2509.26476).
PUBLISHED = pd.DataFrame(
    {
        "nds_nasnet": [0.002, 0.209, 0.150, 0.364, 0.344, 0.382],
        "nds_amoeba": [0.032, 0.107, 0.160, 0.376, 0.470, 0.488],
        "nds_pnas": [0.082, 0.184, 0.217, 0.444, 0.430, 0.427],
        "nds_enas": [0.021, 0.224, 0.236, 0.438, 0.484, 0.481],
        "nds_darts": [0.124, 0.333, 0.425, 0.523, 0.567, 0.528],
    },
    index=["MLP", "Arch2Vec", "CATE", "GNN", "FLAN + zero-cost proxies", "RLM"],
)


def main() -> None:
    """Run what is missing, then print both tables as one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no run after so long")
    options = parser.parse_args()
    protocols, folder, methods = nds(), RUNS / "kendall_tau_nds", options.methods.split(",")
    run_tasks(
        plan(protocols, methods, folder).tasks,
        folder,
        workers=options.workers,
        minutes=options.time_limit,
        report=lambda line: print(line, flush=True),
    )
    store = Store(folder)
    found = beside_published(pd.concat([store.runs(protocol) for protocol in protocols], ignore_index=True))
    write_csv(RESULTS / "nds_few_shot.csv", found, command=command_of("experiments.nds_few_shot"), seed=None)
    print(found.to_string(index=False))
    for line in (line for protocol in protocols for line in store.failures(protocol)):
        print(f"failed: {line}")


def beside_published(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a method, a column a space: published values, then the means over our seeds with half their intervals."""
    rows: list[dict[str, object]] = [
        {"source": "published", "method": name, **PUBLISHED.loc[name].rename(str).to_dict()} for name in PUBLISHED.index
    ]
    for name, part in runs.groupby("method", sort=False):
        row: dict[str, object] = {"source": "here", "method": name}
        for table, own in part.groupby("table"):
            interval = Interval.of(own["kendall_tau"].to_numpy())
            row |= {str(table): round(interval.mean, 3), f"{table}_half": round(interval.half, 3)}
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
