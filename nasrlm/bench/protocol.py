"""The protocol in one dataclass: which labels may be seen, who is judged on what, how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasrlm.labels.few_shot import few_shot_split
from nasrlm.labels.tables import LabelTable
from search_spaces.errors import UsageError


@dataclass(frozen=True)
class Protocol:
    """What is asked of every method on one table.

    Attributes:
        table: Name of a table, or of a file's stem where ``labels`` is given.
        metrics: The metrics to predict, each on its own.
        sizes: Budgets: numbers of labels to learn from. A smaller budget is a prefix of a larger one.
        seeds: Draws of labels, by the seeds 0, 1, …
        test: At most so many test networks, drawn at random; 0 takes all that are left.
        labels: A CSV or parquet file of one's own, with a column ``arch``; empty for a table of the project.
        space: Registry name of the search space of ``labels``.
        resamples: Bootstrap samples of the test networks.
    """

    table: str
    metrics: tuple[str, ...]
    sizes: tuple[int, ...] = (16, 128, 512)
    seeds: int = 3
    test: int = 5000
    labels: str = ""
    space: str = ""
    resamples: int = 200

    def __post_init__(self) -> None:
        if not self.metrics:
            raise UsageError(f"no metric of {self.table!r} to predict; name one or more")
        if not self.sizes or min(self.sizes) < 4:
            raise UsageError(f"numbers of labels {self.sizes} must be 4 or more, e.g. 16,128,512")
        for name, least in {"seeds": 1, "test": 0, "resamples": 2}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True)
class Task:
    """One fit of one method, and its judgement; tasks depend on nothing but their own fields.

    Attributes:
        protocol: What it is part of.
        metrics: One metric; for a joint method all that are labelled on the same rows.
        method: Name of the method.
        size: Number of labels.
        seed: Seed of the draw and of the method.
    """

    protocol: Protocol
    metrics: tuple[str, ...]
    method: str
    size: int
    seed: int


@dataclass(frozen=True)
class Draw:
    """Rows of a table.

    Attributes:
        train: Rows whose labels may be seen, in random order.
        test: Rows to judge by, ascending; none is functionally identical to a training row.
    """

    train: np.ndarray
    test: np.ndarray


def draw(table: LabelTable, protocol: Protocol, metric: str, size: int, seed: int) -> Draw:
    """The rows of one task: uniform over the rows that have the metric, equal for all methods.

    Raises:
        UnknownNameError: The table has no such metric.
        UsageError: The table has too few labels.
    """
    split = few_shot_split(table, seed=seed, metric=metric, labels=size, test=protocol.test or None)
    if len(split.test) < 2:
        raise UsageError(f"{size} of the labels of {metric!r} leave {len(split.test)} networks to test on; draw fewer")
    return Draw(np.array(split.train, dtype=np.int64), np.array(split.test, dtype=np.int64))


def joint_groups(table: LabelTable, metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """``metrics`` in groups that are labelled on the same rows: one draw serves a group."""
    groups: dict[bytes, list[str]] = {}
    for metric in metrics:
        groups.setdefault(table.frame[metric].notna().to_numpy().tobytes(), []).append(metric)
    return [tuple(group) for group in groups.values()]
