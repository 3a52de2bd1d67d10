"""Few-shot splits of a table: the published protocol on NDS, and the rule by which all splits are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasrlm.labels.tables import LabelTable
from search_spaces.errors import UsageError

#: Labels of the target space after joint pretraining on the others, in "Regression Language Models for Code" (arXiv
#: 2509.26476). It does not say the number for ENAS, so that has to be given.
TARGET_LABELS = {"nds_nasnet": 16, "nds_amoeba": 16, "nds_pnas": 16, "nds_darts": 100}


@dataclass(frozen=True, slots=True)
class FewShotSplit:
    """Rows of a table.

    Attributes:
        train: Rows whose labels may be seen, in random order: a smaller budget is a prefix.
        test: Rows to judge by, in the order of the table.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def few_shot_split(
    table: LabelTable,
    *,
    seed: int,
    metric: str = "cifar10_test",
    labels: int | None = None,
    test: int | None = None,
) -> FewShotSplit:
    """Draw the labels that may be seen at random over the table; judge by the rest.

    Test rows that are functionally identical to a training row (equal ``space.canonical``) are left out: their label is
    known but for the noise of training.

    Args:
        table: A table, e.g. ``load_table("nds_nasnet")``.
        seed: Seed of the draw; equal seeds give equal splits, and a larger ``labels`` extends the training rows.
        metric: Rows without it take no part.
        labels: Training rows; the published number of the table when None.
        test: At most so many test rows, drawn at random; all when None.

    Raises:
        UnknownNameError: The table has no such metric.
        UsageError: No number is published for the table, or it has too few rows.
    """
    table.check([metric])
    size = TARGET_LABELS.get(table.name) if labels is None else labels
    if size is None:
        raise UsageError(
            f"no number of labels is published for table {table.name!r}, only for {', '.join(TARGET_LABELS)}; "
            "give labels"
        )
    known = np.flatnonzero(table.frame[metric].notna())
    if not 0 < size < len(known):
        raise UsageError(f"labels must lie between 1 and {len(known) - 1} for table {table.name!r}, got {size}")
    order = np.random.default_rng(seed).permutation(known)
    train = [int(row) for row in order[:size]]
    seen = {table.canonical(row) for row in train}
    kept: list[int] = []
    for row in order[size:]:
        if test is not None and len(kept) == test:
            break
        if table.canonical(int(row)) not in seen:
            kept.append(int(row))
    return FewShotSplit(tuple(train), tuple(sorted(kept)))
