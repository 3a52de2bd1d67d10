"""Fine-tuning a pretrained language model on few labels: where it starts, and by which settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from nasrlm.labels.descriptions import DESCRIPTIONS
from nasrlm.labels.names import metric

#: The checkpoint that fine-tuning begins with, and the one before it, which saw no label at all.
START, FREE = "rlm-small", "rlm-free"
_WITHOUT = "-without-"
#: Settings for any number of labels, tried by hand on draws that are not reported (docs/pretraining.md).
FINETUNING: Mapping[str, object] = {
    "reading.functions": "all",
    "start.dropout": 0.0,
    "start.freeze": (),
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.2,
    "training.smoothing": 0.4,
    "training.digit_weights": (1.0,),
    "training.ema": 0.99,
    "training.orders": 1,
    "training.ranking": 30.0,
    "training.ranking_by": "slope",
    "training.threads": 1,
    "decoding.readings": 1,
}
#: Parts of the labels that are set aside in turn to learn how wide intervals must be, where ``nasrlm finetune`` fits
#: and the recipe sets none aside for itself.
FOLDS = 4
#: Optimisation steps by number of labels, interpolated in its logarithm: where fresh networks carry labels further, and
#: more steps before them gain nothing, and where there are none.
STEPS: Mapping[int, int] = {16: 120, 128: 450}
ALONE_STEPS: Mapping[int, int] = {**STEPS, 512: 1200}
#: Weight of a zero-cost proxy's digits beside the metric's, where a model is given proxies when it predicts: thirteen
#: of them say as much as the metric.
GIVEN_WEIGHT = 0.1
#: Weight of an accuracy beside latencies from ``MANY`` labels on: they would drown it otherwise, being easier and more.
#: Tried with 16, 128 and 1,000 labels of draws that are not reported; with few it takes from them what it gives.
QUALITY_WEIGHT, MANY = 4.0, 512
#: Labels that a checkpoint is worth where there are fewer than ``FEW``, and how much these say about what to start from
#: (``StartConfig.blend``).
FEW, WORTH, BLEND = 64, 16, 20.0
#: Fresh networks that carry labels further, and how (``TeachingConfig``): fewer than ``FEW``, than ``MORE``, than
#: ``ENOUGH``.
POOL: Mapping[str, object] = {"teaching.pool": 1024, "teaching.passes": 8, "teaching.pool_smoothing": 0.4}
FEW_TEACHING: Mapping[str, object] = {**POOL, "teaching.pool_ranking": 0.0}
TEACHING: Mapping[str, object] = {
    **POOL,
    "teaching.pool_ranking": 30.0,
    "teaching.trust_folds": 4,
    "teaching.genes": True,
    "teaching.shaped": True,
    "teaching.least_noise": 0.001,
    "teaching.leave_one_out": True,
}
#: Labels enough to tell in which shares to follow whom, and to do without a third of them in longer fits.
MORE_TEACHING: Mapping[str, object] = {
    **TEACHING,
    "teaching.pool": 2048,
    "teaching.passes": 4,
    "teaching.trust_folds": 3,
    "teaching.trust_epochs": 5 / 6,
    "teaching.stacked": True,
}
MORE, ENOUGH = 256, 1000
#: What the checkpoint's matrices are multiplied by before the labels, few of them or more.
FEW_SHRUNK, SHRUNK = 0.7, 0.5


def saw_labels_of(checkpoint: str, space: str) -> bool:
    """Whether a start may have learned labels of ``space``, by its name or that of its folder.

    That is one of all spaces, or of all but others, where the space has a table; or one called like the space.
    """
    name = Path(checkpoint).name
    start, _, without = name.partition(_WITHOUT)
    labelled = space in {description.space for description in DESCRIPTIONS.values()}
    return labelled and ((start == START and space not in without.split("-")) or name == space)


def judged_from(checkpoint: str, space: str, shipped: Collection[str]) -> str:
    """The start, ``checkpoint`` or one beside it, that saw no label of ``space`` and may be judged on it.

    ``<checkpoint>-without-<space>`` where that is shipped, of this space or of several (``<space>-<space>``). Otherwise
    ``checkpoint`` itself if it saw none, or the predecessor of all, that saw no label at all.

    Args:
        checkpoint: Name of the start, or its folder.
        space: Name of the search space.
        shipped: Names of the shipped checkpoints.
    """
    before = Path(checkpoint).name.partition(_WITHOUT)[0] + _WITHOUT
    without = {name: name.removeprefix(before).split("-") for name in shipped if name.startswith(before)}
    fitting = [name for name, spaces in without.items() if space in spaces]
    if fitting and Path(checkpoint).name not in fitting:
        return min(fitting, key=lambda name: (len(without[name]), name))
    return FREE if saw_labels_of(checkpoint, space) else checkpoint


def like_of(metrics: Sequence[str], known: Sequence[str]) -> str | dict[str, str]:
    """Which metric of a checkpoint new ``metrics`` start from, for ``StartConfig.like``: one for all, or by metric.

    What other networks' accuracies or latencies taught it, where it knows any: a handful of labels says less about
    which of forty metrics is the nearest than the name does. ``best`` by the labels where the name says nothing.
    """

    def like(name: str) -> str:
        kind = metric(name).unit if metric(name).of_device else metric(name).direction
        found = {"max": "accuracy", "ms": "latency"}.get(kind, "")
        return found if found in known else "best"

    likes = {name: like(name) for name in metrics}
    return likes if len(set(likes.values())) > 1 else likes[metrics[0]]


def finetuning_sizes(size: int, steps: Mapping[int, int] | None = None, *, pool: bool = True) -> dict[str, object]:
    """What depends on the number of labels: epochs and batch size that make ``steps``, and the hold of the checkpoint.

    A checkpoint is taught best that was shrunk before. A handful of labels also chooses what of it to start from, and
    leaves the weights half-way to where they began. Networks that nobody measured carry further what is not enough.

    Args:
        size: Number of labels.
        steps: Optimisation steps by number of labels in place of the recipe's.
        pool: Whether there may be fresh networks; the recipe without them takes more steps.
    """
    taught = FEW_TEACHING if size < FEW else TEACHING if size < MORE else MORE_TEACHING
    teaching = taught if pool and size < ENOUGH else {}
    known = steps or (STEPS if teaching else ALONE_STEPS)
    count = float(np.interp(np.log(size), np.log(list(known)), list(known.values())))
    batch = min(64, max(8, size // 4))
    few: dict[str, object] = {"training.anchor": WORTH, "start.blend": BLEND, "start.shrink": FEW_SHRUNK}
    held = few if size < FEW else {"start.shrink": SHRUNK}
    epochs = max(1, round(count / -(-size // batch)))
    return {"training.batch_size": batch, "training.epochs": epochs, **held, **teaching}


def weights_among(metrics: Sequence[str], size: int) -> dict[str, object]:
    """The setting that weighs ``metrics`` which one fit learns from ``size`` labels; none where all count alike."""
    quality = [name for name in metrics if not metric(name).counts_dead]
    drowned = size >= MANY and 0 < len(quality) < len(metrics)
    return {"start.weights": dict.fromkeys(quality, QUALITY_WEIGHT)} if drowned else {}


def recipe(size: int, *, pool: bool = True) -> dict[str, object]:
    """All settings for ``size`` labels, where there may be fresh networks or, without ``pool``, not."""
    return {**FINETUNING, **finetuning_sizes(size, pool=pool)}
