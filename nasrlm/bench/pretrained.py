"""Fine-tuning a pretrained language model on few labels; ``python -m experiments.finetune_trials`` tries settings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nasrlm.labels.descriptions import DESCRIPTIONS

#: The checkpoint that fine-tuning begins with, and the one before it, which saw no label at all.
START, FREE = "rlm-small", "rlm-free"
#: Settings for any number of labels.
FINETUNING: Mapping[str, object] = {
    "start.pool": 2048,
    "start.dropout": 0.1,
    "start.freeze": (),
    "start.like": "best",
    "training.learning_rate": 3e-4,
    "training.weight_decay": 0.05,
    "training.smoothing": 0.02,
    "training.digit_weights": (1.0, 0.5, 0.1),
    "training.ema": 0.99,
    "training.orders": 4,
    "training.ranking": 0.0,
    "training.threads": 1,
    "decoding.readings": 1,
}
#: Optimisation steps by number of labels, interpolated in its logarithm.
STEPS: Mapping[int, int] = {16: 50, 128: 200, 512: 800}


def saw_labels_of(checkpoint: str, space: str) -> bool:
    """Whether a start may have learned labels of ``space``: it is the one of all spaces, and the space has a table."""
    return checkpoint == START and space in {description.space for description in DESCRIPTIONS.values()}


def finetuning_steps(size: int, steps: Mapping[int, int] = STEPS) -> dict[str, object]:
    """Epochs and batch size that make the steps for ``size`` labels."""
    count = float(np.interp(np.log(size), np.log(list(steps)), list(steps.values())))
    batch = min(64, max(8, size // 4))
    per_epoch = -(-size // batch)
    return {"training.batch_size": batch, "training.epochs": max(1, round(count / per_epoch))}
