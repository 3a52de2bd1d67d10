"""Fine-tuning a pretrained language model on few labels; ``python -m experiments.finetune_trials`` tries settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nasrlm.labels.descriptions import DESCRIPTIONS
from nasrlm.labels.names import metric

#: The checkpoint that fine-tuning begins with, and the one before it, which saw no label at all.
START, FREE = "rlm-small", "rlm-free"
#: Settings for any number of labels.
FINETUNING: Mapping[str, object] = {
    "start.dropout": 0.1,
    "start.freeze": (),
    "training.learning_rate": 5e-4,
    "training.weight_decay": 0.2,
    "training.smoothing": 0.4,
    "training.digit_weights": (1.0,),
    "training.ema": 0.99,
    "training.orders": 16,
    "training.ranking": 100.0,
    "training.threads": 1,
    "decoding.readings": 1,
}
#: Fresh networks to learn pseudo-labels of, where there are fewer labels than ``FEW``.
POOL, FEW = 2048, 64
#: Optimisation steps by number of labels, interpolated in its logarithm.
STEPS: Mapping[int, int] = {16: 40, 128: 150, 512: 1200}


def saw_labels_of(checkpoint: str, space: str) -> bool:
    """Whether a start may have learned labels of ``space``: it is the one of all spaces, and the space has a table."""
    return checkpoint == START and space in {description.space for description in DESCRIPTIONS.values()}


def like_of(metrics: Sequence[str], known: Sequence[str]) -> str:
    """Which metric of a checkpoint new ``metrics`` start from, for ``StartConfig.like``.

    What other networks' accuracies or latencies taught it, where it knows any: a handful of labels says less about
    which of forty metrics is the nearest than the name does. ``best`` by the labels where the name says nothing.
    """
    kinds = {metric(name).unit if metric(name).of_device else metric(name).direction for name in metrics}
    like = {"max": "accuracy", "ms": "latency"}.get(kinds.pop(), "") if len(kinds) == 1 else ""
    return like if like in known else "best"


def finetuning_sizes(size: int, steps: Mapping[int, int] = STEPS) -> dict[str, object]:
    """What depends on the number of labels: epochs and batch size that make the steps, and pseudo-labels."""
    count = float(np.interp(np.log(size), np.log(list(steps)), list(steps.values())))
    batch = min(64, max(8, size // 4))
    per_epoch = -(-size // batch)
    return {
        "training.batch_size": batch,
        "training.epochs": max(1, round(count / per_epoch)),
        "start.pool": POOL if size < FEW else 0,
    }
