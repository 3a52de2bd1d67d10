"""Train the shipped NAS-Bench-201 checkpoint: one RLM, accuracy and four latencies, half of the cells.

    python -m experiments.train_nasbench201                      # about 20 minutes on one core; resumes if killed
    python -m experiments.train_nasbench201 --limit 500 --epochs 5 --out runs/small   # a quick look

Writes the checkpoint folder (weights, tokenizer, config, model card) and, for a full run, the held-out scores
``results/nasbench201/scores.csv``. The validation cells (a tenth of the half) are left out of training; they choose the
epoch, the temperature of the digits, and what was tried while developing. The test half is looked at only here.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.nasbench201_split import METRICS, load, split
from experiments.record import RESULTS, commit, write_csv
from nasrlm.bench.machine import machine
from nasrlm.labels.tables import LabelTable
from nasrlm.metrics import bootstrap, interval_coverage, kendall_tau, spearman_rho
from surrogates.progress import Progress
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.text import linearize

COMMAND = "python -m experiments.train_nasbench201"
CHECKPOINT = Path(__file__).parents[1] / "surrogates" / "checkpoints" / "nasbench201"
STATE = Path("runs") / "train_nasbench201"

MODEL = ModelConfig(
    width=96,
    encoder_layers=3,
    decoder_layers=2,
    heads=("producers", "consumers", "ancestors", "descendants", "all", "all"),
    feed_forward=256,
    dropout=0.1,
)
#: The last digits of a noisy label are noise: they weigh little and are smeared, or the model learns them by heart.
TRAINING = TrainingConfig(
    epochs=24,
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=0.05,
    smoothing=0.02,
    digit_weights=(1.0, 0.5, 0.1),
    joint=0.3,
    evaluate_every=4,
    threads=1,
    seed=0,
)


def main() -> None:
    """Train, evaluate on the held-out half, write checkpoint, model card and scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="checkpoint folder")
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    parser.add_argument("--limit", type=int, default=None, help="train on this many cells only")
    parser.add_argument("--threads", type=int, default=TRAINING.threads)
    options = parser.parse_args()
    table = load()
    rows = split(table)
    training = TrainingConfig(**{**asdict(TRAINING), "epochs": options.epochs, "threads": options.threads})
    texts = texts_of(table)
    train = np.random.default_rng(0).permutation(np.setdiff1d(rows.train, rows.validation))[: options.limit]
    labels = table.frame.iloc[train][list(METRICS)].reset_index(drop=True)
    rlm = RLM(MODEL, training)
    held = table.frame.iloc[rows.validation][list(METRICS)].reset_index(drop=True)
    validation = ([texts[row] for row in rows.validation], held)
    rlm.fit([texts[row] for row in train], labels, checkpoint=STATE, progress=True, validation=validation)
    print(rlm.history)
    rlm.save_pretrained(options.out)
    scores = pd.concat([score(rlm, table.frame, texts, getattr(rows, part), part) for part in ("validation", "test")])
    print(scores.to_string(index=False))
    full = options.limit is None and options.out == CHECKPOINT
    (options.out / "README.md").write_text(card(rlm, len(train), scores, full), encoding="utf-8")
    if full:
        write_csv(RESULTS / "nasbench201" / "scores.csv", scores, command=COMMAND, seed=training.seed)


def texts_of(table: LabelTable) -> list[str]:
    """The linearised text of every cell of the table."""
    texts = []
    with Progress("linearising", len(table)) as bar:
        for arch in table.architectures:
            texts.append(linearize(table.space.to_onnx(arch)))
            bar.advance()
    return texts


def score(rlm: RLM, frame: pd.DataFrame, texts: list[str], rows: np.ndarray, part: str) -> pd.DataFrame:
    """Rank correlations with 95 % intervals and coverage of the predicted intervals, one row a metric."""
    prediction = rlm.predict([texts[row] for row in rows], METRICS, progress=True)
    found = []
    for column, metric in enumerate(METRICS):
        truth, mean = frame[metric].to_numpy()[rows], prediction.mean[:, column]
        rho, tau = (bootstrap(s, truth, mean, resamples=200) for s in (spearman_rho, kendall_tau))
        coverage = interval_coverage(truth, prediction.quantiles[:, column], prediction.levels)
        found.append(
            {
                "part": part,
                "metric": metric,
                "cells": len(rows),
                "spearman_rho": round(rho.value, 4),
                "spearman_low": round(rho.low, 4),
                "spearman_high": round(rho.high, 4),
                "kendall_tau": round(tau.value, 4),
                **{f"coverage_{level:.0%}".rstrip("%"): round(share, 3) for level, share in coverage.items()},
            }
        )
    return pd.DataFrame(found)


def card(rlm: RLM, cells: int, scores: pd.DataFrame, full: bool) -> str:
    """The model card."""
    size = sum(parameter.numel() for parameter in rlm.network.parameters())
    test = scores[scores.part == "test"]
    table = "\n".join(
        f"| `{row.metric}` | {row.spearman_rho:.4f} [{row.spearman_low:.4f}, {row.spearman_high:.4f}] "
        f"| {row.kendall_tau:.4f} | {row.coverage_80:.2f} |"
        for row in test.itertuples()
    )
    shown = "" if full else "**A trial run, not the shipped model.**\n\n"
    return f"""# RLM for NAS-Bench-201

{shown}A regression language model of {size:,} parameters that reads the linearised ONNX graph of a NAS-Bench-201
network and writes CIFAR-10 test accuracy (%) and the latency (ms) on Pixel 3, Eyeriss, Xeon Gold 6226 and
Titan RTX (batch 32).

- Data: NAS-Bench-201 accuracies (200 epochs, mean over seeds) and HELP / HW-NAS-Bench latencies of {cells:,} cells; no
  test cell is functionally identical to a training cell.
- Command: `{COMMAND}`; seed {rlm.training.seed}; commit {commit()}; {machine()}.
- Training: {rlm.training.epochs} epochs, {rlm.history["seconds"] / 60:.0f} minutes.
- Limits: one search space, the CIFAR-10 network of 15 cells at 32x32. Labels of single measurements carry noise:
  functionally identical cells agree with Kendall tau .91 on accuracy.

Held-out scores ({test.cells.iloc[0]:,} cells; 95 % bootstrap intervals):

| metric | Spearman rho | Kendall tau | coverage of the 80 % interval |
|---|---|---|---|
{table}
"""


if __name__ == "__main__":
    main()
