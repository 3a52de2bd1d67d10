"""How much of NAS-Bench-201's true fronts a search finds with 50, 100 and 200 true labels.

    NASRLM_DATA=data python -m experiments.search_nasbench201                (4 seeds, about 4 minutes on one free core)
    NASRLM_DATA=data python -m experiments.search_nasbench201 --seeds 1 --devices eyeriss     (half a minute)
    NASRLM_DATA=data python -m experiments.search_nasbench201 --surrogates xgboost rlm        (hours)

Runs the budgeted loop with a surrogate that is refitted every round, and random search, on accuracy and the latency of
four devices, and measures what it costs to keep one network per canonical key. The surrogates are xgboost and the
pretrained language model, from a checkpoint that saw no label of the space. Every search is a folder under ``--runs``:
a second call goes on where the first one stopped, and reads what others finished. Writes ``search_nasbench201.csv``
(one row a run and budget) and ``.md`` to ``--out``. A run of 200 labels is also the run of 50 and 100: nothing in the
loop looks ahead at the budget.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.record import as_markdown, command_of, provenance
from nasrlm.bench.pretrained import START, judged_from
from nasrlm.few_shot import FewShotRLM
from nasrlm.labels.tables import LabelTable, load_table
from nasrlm.pareto import HypervolumeFraction
from nasrlm.search import SearchConfig, run_search
from surrogates import registry
from surrogates.base import Surrogate
from surrogates.tabular import XGBoostConfig, XGBoostSurrogate

ACCURACY = "cifar10_test"
DEVICES = ("pixel3", "eyeriss", "gold_6226", "titan_rtx_32")
BUDGETS = (50, 100, 200)
#: Labels that a search with each surrogate buys: fitting the language model takes half a minute a round.
SURROGATES = {"xgboost": 200, "rlm": 100}
RANDOM_SEEDS = 200


def main() -> None:
    """Run, or go on, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--surrogates", nargs="+", default=["xgboost"], choices=list(SURROGATES))
    parser.add_argument("--devices", nargs="+", default=list(DEVICES), choices=DEVICES)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/search_nasbench201"))
    arguments = parser.parse_args()

    table = load_table("nasbench201")
    rows, twins = [], []
    for device in arguments.devices:
        objectives = (ACCURACY, f"{device}_latency_ms")
        quality = HypervolumeFraction(table.frame, objectives)
        twins.append({"device": device, "front": int(quality.front.sum()), **reachable(table, objectives, quality)})
        rows += [
            {"method": "random", "device": device, "seed": seed, "labels": budget, "fraction": fraction}
            for seed in range(RANDOM_SEEDS)
            for budget, fraction in random_search(table, quality, seed).items()
        ]
        for seed, name in product(range(arguments.seeds), arguments.surrogates):
            found = loop(table, objectives, name, seed, arguments.runs / name / f"{device}_{seed}")
            rows += [
                {"method": f"loop, {name}", "device": device, "seed": seed, "labels": budget, "fraction": fraction}
                for budget, fraction in found.items()
            ]
            print(device, name, seed, {budget: round(fraction, 3) for budget, fraction in found.items()}, flush=True)
    frame = pd.DataFrame(rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    searched = frame[frame["method"] != "random"]  # random search is fast enough to be drawn again by anyone
    searched.to_csv(arguments.out / "search_nasbench201.csv", index=False, float_format="%.5f")
    text = report(frame, pd.DataFrame(twins), arguments.seeds)
    (arguments.out / "search_nasbench201.md").write_text(text, encoding="utf-8")
    print(text)


def loop(table: LabelTable, objectives: tuple[str, ...], name: str, seed: int, out: Path) -> dict[int, float]:
    """Hypervolume fraction by number of labels of one search."""
    config = SearchConfig("nasbench201", objectives, budget=SURROGATES[name], labels="table", seed=seed)
    result = run_search(config, surrogate_of(name, seed), out, table=table, resume=True, progress=False)
    curve = {step["labels"]: step["fraction"] for step in result.record["hypervolume"]["labels"]}
    return {budget: curve[budget] for budget in BUDGETS if budget in curve}


def surrogate_of(name: str, seed: int) -> Surrogate:
    """The surrogate of a search, not fitted yet."""
    if name == "xgboost":
        return XGBoostSurrogate(XGBoostConfig(features="genome", seed=seed))
    return FewShotRLM(judged_from(START, "nasbench201", registry.checkpoints()), seed=seed)


def random_search(table: LabelTable, quality: HypervolumeFraction, seed: int) -> dict[int, float]:
    """The same for labels bought at random."""
    order = np.random.default_rng(seed).permutation(len(table))
    return {budget: quality.fraction(table.frame.iloc[order[:budget]]) for budget in BUDGETS}


def reachable(table: LabelTable, objectives: tuple[str, ...], quality: HypervolumeFraction) -> dict[str, float]:
    """Hypervolume fraction, by true labels, of one network per canonical key: the fastest, or one at random."""
    keys = pd.Series([table.canonical(row) for row in range(len(table))], index=table.frame.index)
    fastest = table.frame[objectives[1]].groupby(keys).idxmin()
    at_random = [
        quality.fraction(table.frame.loc[keys.sample(frac=1, random_state=seed).drop_duplicates().index])
        for seed in range(20)
    ]
    return {"fastest": quality.fraction(table.frame.loc[fastest]), "random": float(np.mean(at_random))}


def report(frame: pd.DataFrame, twins: pd.DataFrame, seeds: int) -> str:
    """The result as Markdown."""
    lines = [
        "# Search on NAS-Bench-201: accuracy and latency with few true labels",
        "",
        "Fraction of the exact hypervolume (test error clipped at 15 %, latency to its 99.9 % quantile, both scaled to",
        f"[0, 1] from their minimum, reference (1, 1)); mean ± standard deviation over {seeds} seeds of the loop and",
        f"{RANDOM_SEEDS} of random search.",
        "",
        "| method | device | " + " | ".join(f"{budget} labels" for budget in BUDGETS) + " |",
        "|---|---|" + "---|" * len(BUDGETS),
    ]
    for (method, device), group in frame.groupby(["method", "device"], sort=False):
        cells = []
        for budget in BUDGETS:
            values = group[group["labels"] == budget]["fraction"]
            cells.append(f"{values.mean():.3f} ± {values.std(ddof=0):.3f}" if len(values) else "–")
        lines.append(f"| {method} | {device} | {' | '.join(cells)} |")
    lines += [
        "",
        "What keeping one network per canonical key costs (true labels of all 15,625 cells, 4,930 keys): the",
        "hypervolume that stays reachable when the fastest of all functionally identical networks is kept, as in the",
        "search, or whichever came first.",
        "",
        "| device | cells on the exact front | fastest of each key | a random one of each key |",
        "|---|---|---|---|",
    ]
    lines += [f"| {t.device} | {t.front} | {t.fastest:.3f} | {t.random:.3f} |" for t in twins.itertuples()]
    facts = provenance(command_of("experiments.search_nasbench201"), seed=None)
    return "\n".join([*lines, "", as_markdown(facts)])


if __name__ == "__main__":
    main()
