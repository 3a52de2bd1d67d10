"""Latency of a device that nobody measured yet: what ten labels of it are worth once other devices were learned.

    python -m experiments.device_latency                               # hours on one core; resumes
    python -m experiments.device_latency --tables fbnet --devices pixel2,fpga --draws 2

Every device is left out in turn, with all of its batch sizes. A language model goes on from ``rlm-free``, which
saw no label, and learns the latencies of the other devices on 900 networks, as HELP does (Lee et al., NeurIPS 2021).
Then ten labels of the device left out, of other networks, say how it is read off from those
(``surrogates/rlm/read_off.py``); nothing is trained any more. The ten are ``random``, or ten of a hundred that are
``far_apart`` in what the model reads. It is judged by Spearman's rank correlation on networks that are functionally
identical to none of the 900. Beside it stand ``nearest``, the one known device whose predicted latency orders the ten
labels best, and the numbers of MACs and parameters. The columns are the 27 of HELP on NAS-Bench-201 and on FBNet.
``results/device_latency.csv`` has a row a column, choice and draw of labels, and method; ``.md`` averages the batch
sizes of a device, and then the devices.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.record import RESULTS, as_markdown, command_of, print_of, provenance, read_rows, write_csv
from nasrlm.bench.inputs import networks
from nasrlm.bench.methods import configure, content_of
from nasrlm.bench.pretrained import FREE, finetuning_sizes, recipe
from nasrlm.bench.processes import pin_threads
from nasrlm.bench.summary import Interval
from nasrlm.labels.tables import LabelTable, load_table
from nasrlm.metrics import spearman_rho
from search_spaces.errors import UsageError
from surrogates.rlm import RLM
from surrogates.rlm.few_shot import FineTunedRLM
from surrogates.rlm.read_off import far_apart, nearest, read_off
from surrogates.rlm.starting import StartConfig

CSV = RESULTS / "device_latency.csv"
MODELS = Path("runs") / "device_latency"
SUFFIX = "_latency_ms"
#: Devices of HELP by table; HW-NAS-Bench's further columns repeat some of them on other inputs.
DEVICES = (
    *(f"{gpu}_{batch}" for gpu in ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp") for batch in (1, 32, 256)),
    *("gold_6226", "gold_6240", "silver_4114", "silver_4210r"),
    *("pixel2", "pixel3", "samsung_a50", "samsung_s7", "essential_ph_1", "raspi4", "eyeriss", "fpga"),
)
TABLES = {"nasbench201": DEVICES, "fbnet": tuple(re.sub("_256$", "_64", device) for device in DEVICES)}
#: Networks whose latency is known on the other devices; labels of the new device; networks to judge by, at most.
KNOWN, LABELS, TEST = 900, 10, 2000
#: Networks that ten are chosen of.
CANDIDATES = 100
#: Steps of learning the other devices.
STEPS = 600
#: What differs from the benchmark's recipe where the other devices are learned: so many labels of 26 columns order
#: networks by themselves, and a few columns a step cost a fraction of all.
OTHERS = {"start.like": "best", "training.ranking": 0.0, "training.metrics_at_once": 6}
#: Columns that order networks by themselves, where a table has them.
SIZES = ("macs", "params")
#: Of these HELP publishes figures on NAS-Bench-201, mean rho .932 with ten labels; it knew nine columns of others.
PUBLISHED = {f"{name}{SUFFIX}" for name in ("titan_rtx_256", "gold_6226", "pixel2", "raspi4", "eyeriss", "fpga")}
#: Columns of the page: a method, and how its labels were chosen.
COLUMNS = (("rlm", "far_apart"), ("rlm", "random"), ("nearest", "far_apart"), ("nearest", "random"), ("macs", "random"))
KEYS = ["table", "column", "settings", "steps", "seed", "choice", "draw", "method"]


def main() -> None:
    """Run what is missing, then print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--devices", default="", help="without batch sizes, comma-separated; all by default")
    parser.add_argument("--draws", type=int, default=5, help="draws of ten labels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the networks and of all else")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no device after so long")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    pin_threads()
    done = read_rows(options.out, KEYS, texts=["settings"])
    deadline = time.monotonic() + 60 * options.time_limit
    for name in options.tables.split(","):
        table = load_table(name)
        for device in chosen(name, options.devices):
            if options.time_limit and time.monotonic() > deadline:
                break
            columns = [f"{column}{SUFFIX}" for column in TABLES[name] if family(column) == device]
            settings = settings_of(options.steps)
            run = {"table": name, "settings": settings, "steps": options.steps, "seed": options.seed}
            same = (done[list(run)] == pd.Series(run)).all(axis=1)
            here = done[same & done["column"].isin(columns)]
            draws = [draw for draw in range(options.draws) if draw not in set(here["draw"])]
            if not draws:
                continue
            folder = MODELS / f"{name}-without-{device}-{settings}-{options.seed}"
            rows = judged(table, device, columns, draws, options.steps, options.seed, folder).assign(**run)
            done = pd.concat([done, rows], ignore_index=True)
            write_csv(options.out, done, command=command_of("experiments.device_latency"), seed=options.seed)
            print(
                rows.groupby(["table", "column", "choice", "method"])["spearman_rho"].mean().round(3).to_string(),
                flush=True,
            )
    if done.empty:
        return
    facts = as_markdown(provenance(command_of("experiments.device_latency"), seed=options.seed))
    options.out.with_suffix(".md").write_text(page(done) + "\n" + facts, encoding="utf-8")
    print(summary(done).to_string(index=False))


def settings_of(steps: int) -> str:
    """A hash of all that a row depends on besides its labels: the checkpoint, and how it goes on."""
    return print_of([content_of(FREE), learning(KNOWN, steps)])


def family(column: str) -> str:
    """The device that a column measures: GPUs without their batch size."""
    return re.sub(r"^(1080ti|2080ti|titan_rtx|titanxp?)_\d+$", r"\1", column)


def chosen(table: str, devices: str) -> list[str]:
    """Devices of ``table``; those named, if any.

    Raises:
        UsageError: It has no such table or device.
    """
    if table not in TABLES:
        raise UsageError(f"--tables {table}: choose from {', '.join(TABLES)}")
    every = list(dict.fromkeys(map(family, TABLES[table])))
    wanted = devices.split(",") if devices else every
    if unknown := set(wanted) - set(every):
        raise UsageError(f"--devices {','.join(sorted(unknown))}: choose from {', '.join(every)}")
    return wanted


def judged(
    table: LabelTable, device: str, columns: Sequence[str], draws: Sequence[int], steps: int, seed: int, folder: Path
) -> pd.DataFrame:
    """Spearman's rho of every method, on every column of ``device``, choice and draw of labels.

    The model that learned the other devices is in ``folder``, or made there.
    """
    order = np.random.default_rng([seed, 5]).permutation(np.flatnonzero(table.frame[list(columns)].notna().all(axis=1)))
    known, rest = order[:KNOWN], order[KNOWN:]
    if not (folder / "config.json").is_file():
        others = [f"{column}{SUFFIX}" for column in TABLES[table.name] if family(column) != device]
        learn_others(table, known, others, steps, seed, state=folder / "unfinished").save_pretrained(folder)
    others_model = RLM.from_pretrained(folder)
    seen = {table.canonical(int(row)) for row in known}
    test = np.array([row for row in rest[-TEST:] if table.canonical(int(row)) not in seen])
    networks_to_judge = networks(table, test)
    guesses = others_model.predict(networks_to_judge).mean
    rows = []
    for draw in draws:
        candidates = np.random.default_rng([seed, 6, draw]).permutation(rest[:-TEST])[:CANDIDATES]
        read = others_model.predict(networks(table, candidates)).mean
        choices = {"random": np.arange(LABELS), "far_apart": far_apart(read, LABELS, seed=draw)}
        for column, (choice, ten) in product(columns, choices.items()):
            truth = table.frame[column].to_numpy(dtype=float)
            labels = truth[candidates[ten]]
            like = nearest(read[ten], labels)
            found = {
                "rlm": read_off(read[ten], labels, guesses),
                "nearest": guesses[:, like],
                **{name: table.frame[name].to_numpy(dtype=float)[test] for name in SIZES if name in table.frame},
            }
            for method, values in found.items():
                rho = round(float(np.nan_to_num(spearman_rho(truth[test], values))), 4)
                row = {"table": table.name, "column": column, "choice": choice, "draw": draw, "method": method}
                rows.append({**row, "spearman_rho": rho, "nearest": others_model.metrics[like]})
    return pd.DataFrame(rows)


def learning(size: int, steps: int) -> dict[str, object]:
    """Settings by which ``steps`` steps learn the other devices on ``size`` networks."""
    return {**recipe(size, pool=False), **finetuning_sizes(size, {size: steps}, pool=False), **OTHERS}


def learn_others(
    table: LabelTable, rows: np.ndarray, columns: Sequence[str], steps: int, seed: int, *, state: Path
) -> RLM:
    """``rlm-free``, gone on with the latencies of all devices in ``columns``; ``state`` keeps it when it is killed."""
    surrogate = FineTunedRLM(StartConfig(FREE))
    configure(surrogate, learning(len(rows), steps), seed=seed)
    labels = table.frame[list(columns)].iloc[rows].reset_index(drop=True)
    return surrogate.fit(networks(table, rows), labels, checkpoint=state, progress=True)


def page(rows: pd.DataFrame) -> str:
    """A table a search space: mean Spearman's rho of every device, by method and choice of the ten networks."""
    lines = ["# A device that nobody measured", ""]
    lines += [
        f"Spearman's rho with {LABELS} labels of the device, once the others were learned on {KNOWN} networks. ± is",
        "half the 95 % t-interval over draws of labels. `random` or `far_apart`: which networks were measured.",
        "`rlm` reads the device off from all that are known, `nearest` from the one that orders the labels best.",
        "",
    ]
    for table, part in rows.groupby("table", sort=False):
        means = by_device(part).pivot_table("spearman_rho", "device", ["method", "choice"])
        columns = [column for column in COLUMNS if column in means]
        lines += [f"## {table}", "", "| device | " + " | ".join(map(" ".join, columns)) + " |"]
        lines += ["|" + "---|" * (len(columns) + 1)]
        for device, values in means[columns].sort_index().iterrows():
            lines.append(f"| {device} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        overall = summary(part).set_index(["method", "choice"]).loc[columns]
        shown = [f"{row.spearman_rho:.3f} ± {row.half:.3f}" for row in overall.itertuples()]
        lines.append("| mean of the devices | " + " | ".join(shown) + " |")
        means_of = {"all batch sizes, each a device": part}
        if table == "nasbench201" and set(part["column"]) >= PUBLISHED:
            means_of["the six that HELP publishes"] = part[part["column"].isin(PUBLISHED)]
        for title, rows_of in means_of.items():
            apart = [Interval.of(each_draw(rows_of, *column)) for column in columns]
            shown = [f"{interval.mean:.3f} ± {interval.half:.3f}" for interval in apart]
            lines.append(f"| mean of {title} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def each_draw(rows: pd.DataFrame, method: str, choice: str) -> pd.Series:
    """Mean over the columns of every draw of labels, as HELP counts: a GPU at another batch size is another device."""
    rows = rows[(rows["method"] == method) & (rows["choice"] == choice)]
    return rows.groupby("draw")["spearman_rho"].mean()


def by_device(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over the batch sizes of each device."""
    rows = rows.assign(device=rows["column"].str.removesuffix(SUFFIX).map(family))
    keys = ["table", "method", "choice", "device", "draw"]
    return rows.groupby(keys, sort=False)["spearman_rho"].mean().reset_index()


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per table, choice and method the mean over devices, its interval over draws of labels, and the hardest device."""
    found = []
    for (table, choice, method), part in by_device(rows).groupby(["table", "choice", "method"]):
        interval = Interval.of(part.groupby("draw")["spearman_rho"].mean())
        lowest = part.groupby("device")["spearman_rho"].mean()
        found.append(
            {
                "table": table,
                "choice": choice,
                "method": method,
                "devices": part["device"].nunique(),
                "spearman_rho": round(interval.mean, 4),
                "half": round(interval.half, 4),
                "lowest": f"{lowest.idxmin()} {lowest.min():.3f}",
            }
        )
    return pd.DataFrame(found)


if __name__ == "__main__":
    main()
