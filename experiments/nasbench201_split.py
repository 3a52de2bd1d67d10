"""The one split of NAS-Bench-201 that the shipped checkpoint and its figures use.

Cells are grouped by ``canonical``, so functionally identical cells are never on both sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nasrlm.labels.tables import LabelTable, load_table

METRICS = (
    "cifar10_test",
    "pixel3_latency_ms",
    "eyeriss_latency_ms",
    "gold_6226_latency_ms",
    "titan_rtx_32_latency_ms",
)


class Split(NamedTuple):
    """Rows of the table.

    Attributes:
        train: At most half of the cells.
        validation: Part of ``train``, left out of training: for choices made while developing, epoch and temperature.
        test: All other cells.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load() -> LabelTable:
    """The NAS-Bench-201 table.

    Raises:
        DataNotFoundError: It is not on this machine.
    """
    return load_table("nasbench201")


def split(table: LabelTable, *, seed: int = 0) -> Split:
    """Half of the cells for training, the rest for test; a tenth of the training cells for validation."""
    keys = np.array([table.canonical(row) for row in range(len(table))])
    classes = np.random.default_rng(seed).permutation(np.unique(keys))
    sizes = dict(zip(*np.unique(keys, return_counts=True), strict=True))
    total = np.cumsum([sizes[key] for key in classes])
    train = np.isin(keys, classes[total <= len(keys) // 2])
    validation = np.isin(keys, classes[total <= len(keys) // 20])
    return Split(np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(~train))
