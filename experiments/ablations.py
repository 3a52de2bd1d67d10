"""What every lever of the language model is worth and costs: the recipe of the benchmark with one thing changed.

    python -m experiments.ablations --workers 2                           # hours; resumes
    python -m experiments.ablations --levers no_labels,no_ranking --sizes 16 --tables nasbench201 --seeds 3

``standing`` is the benchmark's method ``rlm``. A lever changes one decision of it, or of ``scratch``, the same network
without a checkpoint, where a checkpoint fixes the decision. All are fitted on the same draws of labels, by the seeds
100, 101, …, which the benchmark does not report, and judged on the same random networks.
``results/ablations.csv`` has a row a fit, ``results/ablations.md`` the paired differences with their 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from experiments.recipe_trials import COUNTS_ALONE, FIRST_SEED, FOLDER, Trial, changed
from experiments.record import RESULTS, as_markdown, command_of, print_of, provenance, read_rows, write_csv
from nasrlm.bench.inputs import table_of
from nasrlm.bench.methods import Method, find
from nasrlm.bench.pretrained import FREE
from nasrlm.bench.processes import completed
from nasrlm.bench.protocol import Protocol
from nasrlm.bench.summary import Interval
from nasrlm.metrics import kendall_tau
from search_spaces.errors import UsageError

CSV = RESULTS / "ablations.csv"
METRIC, TEST = "cifar10_test", 2000
KEYS = ["lever", "settings", "table", "n_labels", "seed"]
STANDING, SCRATCH = "standing", "scratch"


@dataclass(frozen=True)
class Lever:
    """One decision, taken otherwise.

    Attributes:
        title: What is done instead.
        settings: Settings that differ.
        base: The lever that it is compared with.
        method: Method of the benchmark whose settings differ so.
        start: Checkpoint in place of the method's.
        fits: Fits by other seeds whose ranks are averaged.
    """

    title: str
    settings: Mapping[str, object] | None = None
    base: str = STANDING
    method: str = "rlm"
    start: str = ""
    fits: int = 1

    def made(self) -> Method:
        """The method that is run."""
        method = changed(find(self.method), self.settings or {})
        return replace(method, start=self.start) if self.start else method


def _scratch(title: str, settings: Mapping[str, object], base: str = SCRATCH) -> Lever:
    return Lever(title, settings, base, "rlm_scratch")


LEVERS = {
    STANDING: Lever("the recipe: free targets, labels of other spaces, then these labels"),
    # 1, 5: what is learned before the labels
    SCRATCH: Lever("no pretraining, and no fresh networks, which the checkpoint reads", method="rlm_scratch"),
    "no_labels": Lever("starts from free targets alone: no labels of other spaces, nor proxies of tables", start=FREE),
    # 2: ranking through the digits
    "no_ranking": Lever("digit cross-entropy alone", {"training.ranking": 0.0, "teaching.pool_ranking": 0.0}),
    "quantile_ranking": Lever("ranks the expected quantile, not the slope", {"training.ranking_by": "quantile"}),
    "triple_ranking": Lever("three times the ranking loss of the labels", {"training.ranking": 90.0}),
    # 3: equivalence
    "dead_kept": Lever("dead operations are read", {"reading.dead": "keep"}),
    # 4: values
    "sharp": Lever("digits of the labels not smeared over neighbouring values", {"training.smoothing": 0.02}),
    "scratch_unranked": _scratch("digit cross-entropy alone", {"training.ranking": 0.0}),
    "raw": _scratch(
        "values themselves written, not their quantiles",
        {"training.ranking": 0.0, "value_scale": "raw"},
        "scratch_unranked",
    ),
    "first_digits": Lever("digits weighted 4:2:1", {"training.digit_weights": (4.0, 2.0, 1.0)}),
    # 6: how it is fine-tuned
    "no_pool": Lever("learns no pseudo-labels of fresh networks", method="rlm_alone"),
    "counts_alone": Lever(
        "processes that teach read counts alone, not genes or operations at their shapes", COUNTS_ALONE
    ),
    "stacked": Lever(
        "teachers followed in the shares whose mean orders best what was set aside",
        {"teaching.trust_folds": 4, "teaching.stacked": True},
    ),
    "ensemble": Lever("three fits, their ranks averaged", fits=3),
    "no_average": Lever("no average of the weights over the steps", {"training.ema": 0.0}),
    "unanchored": Lever("weights not drawn back to the checkpoint's", {"training.anchor": 0.0}),
    "by_name": Lever("starts from the metric that the name says alone", {"start.blend": 0.0}),
    "unshrunk": Lever("the checkpoint's matrices not shrunk", {"start.shrink": 1.0}),
    "frozen": Lever("the encoder stays as it is", {"start.freeze": ("encoder",)}),
    "slow": Lever("half the learning rate", {"training.learning_rate": 5e-4}),
    "fast": Lever("twice the learning rate", {"training.learning_rate": 2e-3}),
    # 7: size and shape, from scratch
    "tokens": Lever("reads tokens, by a recipe of its own", base=SCRATCH, method="rlm_tokens"),
    "plain": _scratch("attention that knows no wires", {"model.heads": ("all",) * 6, "model.flow": False}),
    "no_ways": _scratch("not told of the ways through functions", {"model.ways": False}),
    "no_flow": _scratch("no messages along the wires", {"model.flow": False}),
    "attending": _scratch("the decoder's heads attend instead of averaging", {"model.mean_heads": 0}),
    "two_layers": _scratch("two encoder layers for four", {"model.encoder_layers": 2}),
    "six_layers": _scratch("six encoder layers", {"model.encoder_layers": 6}),
    "narrow": _scratch("width 48 for 96", {"model.width": 48, "model.feed_forward": 128}),
    "wide": _scratch("width 192", {"model.width": 192, "model.feed_forward": 512}),
    # 8: zero-cost values
    "given": Lever("given the table's zero-cost proxies as a prefix", method="rlm_zcp"),
}


def main() -> None:
    """Run what is missing, then summarise all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levers", default=",".join(LEVERS), help="comma-separated; their bases come along")
    parser.add_argument("--tables", default="nasbench201,nasbench101")
    parser.add_argument("--sizes", default="16,128", help="numbers of labels")
    parser.add_argument("--seeds", type=int, default=5, help="draws of labels")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no fit after so long")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    levers = chosen(options.levers)
    done = read_rows(options.out, KEYS, texts=["settings"])
    known = set(map(tuple, done[KEYS].to_numpy().tolist()))
    todo = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for size in map(int, options.sizes.split(",")):
            for table in options.tables.split(","):
                protocol = Protocol(table, (METRIC,), (size,), options.seeds, TEST)
                for name in levers:
                    lever, base = LEVERS[name], LEVERS[LEVERS[name].base]
                    if not lever.made().applies(table_of(protocol, FOLDER)):
                        continue
                    if lever is not base and decided(lever, protocol) == decided(base, protocol):
                        continue  # it decides nothing with so many labels
                    if keys_of(name, protocol, seed) not in known:
                        todo.append((name, protocol, seed))
    for fit, scores in completed(run, todo, workers=options.workers, minutes=options.time_limit):
        row = {**dict(zip(KEYS, keys_of(*fit), strict=True)), **scores}
        done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
        write_csv(options.out, done, command=command_of("experiments.ablations"), seed=FIRST_SEED)
        print(row, flush=True)
    page(current(done), options.out.with_suffix(".md"))


def chosen(names: str) -> list[str]:
    """The levers in ``names``, comma-separated, after those that they are compared with.

    Raises:
        UsageError: There is no such lever.
    """
    wanted = names.split(",")
    if unknown := set(wanted) - set(LEVERS):
        raise UsageError(f"--levers {','.join(sorted(unknown))}: choose from {', '.join(LEVERS)}")
    bases = [LEVERS[name].base for name in wanted]
    return list(dict.fromkeys([STANDING, *(LEVERS[base].base for base in bases), *bases, *wanted]))


def settings_of(lever: Lever, protocol: Protocol) -> str:
    """A hash of all that a fit depends on: rows of other settings are other runs."""
    identity = lever.made().identity(table_of(protocol, FOLDER), protocol.metrics, protocol.sizes[0])
    return print_of([identity, lever.fits])


def decided(lever: Lever, protocol: Protocol) -> tuple[object, ...]:
    """All that the levers decide of a fit, with what is left to defaults."""
    table, method = table_of(protocol, FOLDER), lever.made()
    surrogate = method.create(table, protocol.metrics, protocol.sizes[0], 0)
    configs = [value for value in vars(surrogate).values() if is_dataclass(value)]
    return configs, getattr(surrogate, "value_scale", ""), lever.fits, method.weights(table)


def keys_of(name: str, protocol: Protocol, seed: int) -> tuple[str, str, str, int, int]:
    """The ``KEYS`` of the fit of the lever called ``name`` to the draw of ``seed``."""
    return name, settings_of(LEVERS[name], protocol), protocol.table, protocol.sizes[0], seed


def run(name: str, protocol: Protocol, seed: int) -> dict[str, float]:
    """Kendall tau of the lever called ``name`` on the draw of ``seed``, and the CPU seconds of fitting."""
    lever = LEVERS[name]
    trials = [Trial.of(lever.made(), protocol, seed, fit=fit) for fit in range(lever.fits)]
    tau = kendall_tau(trials[0].truth, np.sum([rankdata(trial.predicted) for trial in trials], axis=0))
    seconds = sum(trial.cpu_seconds for trial in trials)
    return {"kendall_tau": round(float(np.nan_to_num(tau)), 4), "cpu_seconds": round(seconds, 1)}


def current(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of ``rows`` that are by the settings of today: an earlier recipe is no measure of a later one's levers."""
    kept = []
    for _, part in rows.groupby(["lever", "table", "n_labels"], sort=False):
        name, table, size = part[["lever", "table", "n_labels"]].to_numpy().tolist()[0]
        if name in LEVERS:
            protocol = Protocol(table, (METRIC,), (size,), 1, TEST)
            kept.append(part[part["settings"] == settings_of(LEVERS[name], protocol)])
    return pd.concat(kept).sort_index() if kept else rows.iloc[:0]


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Per lever, table and number of labels the mean tau, the paired difference to its base, the ratio of seconds."""
    found = []
    for (table, size), part in rows.groupby(["table", "n_labels"], sort=False):
        each = {name: own.set_index("seed") for name, own in part.groupby("lever")}
        for name, lever in LEVERS.items():
            if name not in each:
                continue
            row = {"table": table, "n_labels": size, "lever": name, "tau": each[name]["kendall_tau"].mean()}
            row |= dict.fromkeys(("draws", "effect", "half", "cost"), np.nan)
            if name != STANDING and lever.base in each:
                both = each[name].join(each[lever.base].add_suffix("_base"), how="inner")
                effect = Interval.of(both["kendall_tau"] - both["kendall_tau_base"])
                cost = (both["cpu_seconds"] / both["cpu_seconds_base"]).median()
                row |= {"draws": len(both), "effect": effect.mean, "half": effect.half, "cost": cost}
            found.append(row)
    return pd.DataFrame(found)


def page(rows: pd.DataFrame, path: Path) -> None:
    """Write the tables."""
    lines = ["# What each lever is worth", ""]
    lines += [
        "Kendall tau on draws of labels that the benchmark does not report; differences to the base are paired by",
        "draw, ± half their 95 % t-interval; cost is the ratio of CPU seconds of fitting. A lever whose interval",
        "holds 0 has not been shown to matter.",
        "",
    ]
    for (table, size), part in differences(rows).groupby(["table", "n_labels"], sort=False):
        lines += [f"## {table}, {size} labels", "", "| lever | base | tau | difference | cost | draws |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in part.to_dict("records"):
            lever, shown = LEVERS[row["lever"]], ("–", "–", "–", "")
            if np.isfinite(row["effect"]):
                effect = f"{row['effect']:+.3f} ± {row['half']:.3f}"
                shown = (lever.base, effect, f"× {row['cost']:.2f}", f"{row['draws']:.0f}")
            lines.append(f"| {lever.title} | {shown[0]} | {row['tau']:.3f} | {' | '.join(shown[1:])} |")
        lines.append("")
    facts = as_markdown(provenance(command_of("experiments.ablations"), seed=FIRST_SEED))
    path.write_text("\n".join(lines) + "\n" + facts, encoding="utf-8")


if __name__ == "__main__":
    main()
