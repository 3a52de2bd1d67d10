"""What single decisions of the language model are worth: wiring, depth, value scale, precision; from scratch.

    python -m experiments.rlm_ablations                              # all arms; 75 minutes on one core, resumes
    python -m experiments.rlm_ablations --arms wired,plain --labels 128 --seeds 1    # a few minutes

Each arm differs from ``wired`` (the default model) in one decision. One run: train on ``n`` random networks of the
space with their CIFAR-10 test accuracy, a fixed number of steps, then Kendall tau on networks that are not functionally
identical to a training network. The seed fixes the training networks, the same for all arms. Runs already in
``results/rlm_ablations.csv`` are not repeated; ``results/rlm_ablations.md`` is the summary with paired differences.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
import torch

import search_spaces
from experiments.record import RESULTS, commit, write_csv
from experiments.train_nasbench201 import MODEL
from nasrlm.bench.machine import machine
from nasrlm.labels.tables import LabelTable, load_table
from nasrlm.metrics import kendall_tau, spearman_rho
from search_spaces.base import Architecture
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig
from surrogates.text import linearize

COMMAND = "python -m experiments.rlm_ablations"
CSV = RESULTS / "rlm_ablations.csv"
METRIC = "cifar10_test"
TEST_NETWORKS = 2000
STEPS = 400


class Arm(NamedTuple):
    """A model, how it writes values and what is read off their distribution, the arithmetic it is trained in."""

    model: ModelConfig
    value_scale: str = "quantile"
    digits: int = 3
    precision: str = "auto"
    aggregate: str = "auto"


ARMS = {
    "wired": Arm(MODEL),
    "plain": Arm(replace(MODEL, heads=("all",) * 6)),
    "producers": Arm(replace(MODEL, heads=("producers", "consumers", "all", "all", "all", "all"))),
    "ancestors": Arm(replace(MODEL, heads=("ancestors", "descendants", "all", "all", "all", "all"))),
    "one_free": Arm(replace(MODEL, heads=(*MODEL.heads[:4], "producers", "all"))),
    "two_layers": Arm(replace(MODEL, encoder_layers=2)),
    "five_layers": Arm(replace(MODEL, encoder_layers=5)),
    "median": Arm(MODEL, aggregate="median"),
    "raw": Arm(MODEL, "raw", 4),  # the median, too: see DecodingConfig.aggregate
    "float32": Arm(MODEL, precision="float32"),
}


def main() -> None:
    """Run what is missing, then summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--spaces", default="nasbench201,nasbench101")
    parser.add_argument("--labels", default="128,512")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.read_csv(CSV) if CSV.exists() else pd.DataFrame(columns=["space", "arm", "n_labels", "seed"])
    for seed in range(options.seeds):
        for space in options.spaces.split(","):
            table = load_table(space)
            for n in map(int, options.labels.split(",")):
                train, test = draw(table, n, seed)
                for arm in options.arms.split(","):
                    key = {"space": space, "arm": arm, "n_labels": n, "seed": seed}
                    if (done[list(key)] == list(key.values())).all(axis=1).any():
                        continue
                    row = {**key, **run(ARMS[arm], table, train, test, seed)}
                    done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
                    write_csv(CSV, done, command=COMMAND, seed=seed)
                    print(row, flush=True)
    summary(done, CSV.with_suffix(".md"))


def draw(table: LabelTable, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and rows to test on that are not functionally identical to any of them."""
    order = np.random.default_rng([seed, n]).permutation(len(table))
    train = order[:n]
    known = {table.canonical(int(row)) for row in train}
    test: list[int] = []
    for row in order[n:]:
        if table.canonical(int(row)) not in known:
            test.append(int(row))
        if len(test) == TEST_NETWORKS:
            break
    return train, np.array(test)


def run(arm: Arm, table: LabelTable, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, float]:
    """Train one model and judge it."""
    batch = min(64, max(16, len(train) // 4))
    epochs = max(1, round(STEPS * batch / len(train)))
    training = TrainingConfig(epochs=epochs, batch_size=batch, threads=1, seed=seed, learning_rate=2e-3)
    training = replace(training, precision=arm.precision)
    decoding = DecodingConfig(aggregate=arm.aggregate)
    rlm = RLM(arm.model, training, decoding, value_scale=arm.value_scale, digits=arm.digits)
    labels = table.frame.iloc[train][[METRIC]].reset_index(drop=True)
    rlm.fit(_texts(table, train), labels)
    predicted = rlm.predict(_texts(table, test)).mean[:, 0]
    truth = table.frame[METRIC].to_numpy()[test]
    return {
        "kendall_tau": round(kendall_tau(truth, predicted), 4),
        "spearman_rho": round(spearman_rho(truth, predicted), 4),
        "train_seconds": round(rlm.history["seconds"], 1),
    }


def _texts(table: LabelTable, rows: np.ndarray) -> list[str]:
    return [_text(table.architectures[int(row)]) for row in rows]


@cache
def _text(arch: Architecture) -> str:
    return linearize(search_spaces.get(arch.space).to_onnx(arch))


def summary(runs: pd.DataFrame, path: Path) -> None:
    """Mean tau per arm with a 95 % interval over seeds, and the paired difference to ``wired``."""
    lines = ["# Ablations of the language model", "", f"- command: `{COMMAND}`; commit {commit()}; {machine()}"]
    lines += [f"- {METRIC}, {STEPS} steps from scratch, {TEST_NETWORKS} test networks; mean Kendall tau over seeds", ""]
    lines += [
        "| space | labels | arm | seeds | tau | 95 % | difference to wired | 95 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (space, n), group in runs.groupby(["space", "n_labels"]):
        base = group[group.arm == "wired"].set_index("seed")["kendall_tau"]
        for arm in ARMS:
            tau = group[group.arm == arm].set_index("seed")["kendall_tau"]
            if tau.empty:
                continue
            difference = (tau - base).dropna()
            shown = ("–", "–") if arm == "wired" else (f"{difference.mean():+.3f}", f"± {_half(difference):.3f}")
            cells = (space, n, arm, len(tau), f"{tau.mean():.3f}", f"± {_half(tau):.3f}", *shown)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _half(values: pd.Series) -> float:
    """Half the width of the 95 % t-interval of the mean."""
    if len(values) < 2:
        return float("nan")
    return float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
