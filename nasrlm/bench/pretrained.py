"""Fine-tuning a pretrained language model on few labels; ``python -m experiments.finetune_trials`` tries settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nasrlm.labels.descriptions import DESCRIPTIONS
from nasrlm.labels.names import metric

#: The checkpoint that fine-tuning begins with, and the one before it, which saw no label at all.
START, FREE = "rlm-small", "rlm-free"
#: The same of the models that read lines.
START_LINES, FREE_LINES = "rlm-small-lines", "rlm-free-lines"
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
#: The same for models that read lines, which have no order to vary; tried by hand on draws that are not reported
#: (docs/pretraining.md).
FINETUNING_LINES: Mapping[str, object] = {
    **FINETUNING,
    "reading.functions": "all",
    "start.dropout": 0.0,
    "training.learning_rate": 1e-3,
    "training.orders": 1,
    "training.ranking": 30.0,
    "training.ranking_by": "slope",
}
#: Parts of the labels that are set aside in turn to learn how wide intervals must be, where ``nasrlm finetune`` fits.
FOLDS = 4
#: Fresh networks to learn pseudo-labels of, where there are fewer labels than ``FEW``.
POOL, FEW = 2048, 64
#: Optimisation steps by number of labels, interpolated in its logarithm.
STEPS: Mapping[int, int] = {16: 40, 128: 150, 512: 1200}
STEPS_LINES: Mapping[int, int] = {16: 120, 128: 450, 512: 1200}
#: Weight of a zero-cost proxy's digits beside the metric's, where a model is given proxies when it predicts: thirteen
#: of them say as much as the metric.
GIVEN_WEIGHT = 0.1
#: Models that read lines: labels that a checkpoint is worth where there are fewer than ``FEW``, and what its matrices
#: are multiplied by where there are more.
WORTH, SHRUNK = 16, 0.5


def saw_labels_of(checkpoint: str, space: str) -> bool:
    """Whether a start may have learned labels of ``space``: it is the one of all spaces, and the space has a table."""
    spaces = {description.space for description in DESCRIPTIONS.values()}
    return checkpoint in (START, START_LINES) and space in spaces


def free_of(checkpoint: str) -> str:
    """The checkpoint that saw no label, from which the shipped ``checkpoint`` went on."""
    return FREE_LINES if checkpoint == START_LINES else FREE


def judged_from(checkpoint: str, space: str, shipped: Collection[str]) -> str:
    """The start, ``checkpoint`` or one beside it, that saw no label of ``space`` and may be judged on it.

    ``<checkpoint>-without-<space>`` where that is shipped, of this space or of several (``<space>-<space>``). Otherwise
    ``checkpoint``; but where that is the one of all spaces, and the space has a table, its predecessor that saw no
    label at all.

    Args:
        checkpoint: Name of the start.
        space: Name of the search space.
        shipped: Names of the shipped checkpoints.
    """
    before = f"{checkpoint}-without-"
    without = {name: name.removeprefix(before).split("-") for name in shipped if name.startswith(before)}
    if fitting := [name for name, spaces in without.items() if space in spaces]:
        return min(fitting, key=lambda name: (len(without[name]), name))
    return free_of(checkpoint) if saw_labels_of(checkpoint, space) else checkpoint


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
    return {**_passes(size, steps), "start.pool": POOL if size < FEW else 0}


def finetuning_sizes_lines(size: int, steps: Mapping[int, int] = STEPS_LINES) -> dict[str, object]:
    """The same for a model that reads lines.

    A handful of labels leaves the weights half-way to the checkpoint's; more of them teach a checkpoint best that was
    shrunk before.
    """
    anchored = {"training.anchor": WORTH} if size < FEW else {"start.shrink": SHRUNK}
    return {**_passes(size, steps), **anchored}


def recipe(size: int, *, lines: bool) -> dict[str, object]:
    """All settings for ``size`` labels, for a checkpoint that reads ``lines`` or tokens."""
    if lines:
        return {**FINETUNING_LINES, **finetuning_sizes_lines(size)}
    return {**FINETUNING, **finetuning_sizes(size)}


def _passes(size: int, steps: Mapping[int, int]) -> dict[str, object]:
    """Batch size and epochs that make ``steps`` by number of labels."""
    count = float(np.interp(np.log(size), np.log(list(steps)), list(steps.values())))
    batch = min(64, max(8, size // 4))
    return {"training.batch_size": batch, "training.epochs": max(1, round(count / -(-size // batch)))}
