"""The labelled networks that ``train`` and ``finetune`` learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import search_spaces
from nasrlm.labels.names import metric
from nasrlm.labels.own_table import read_own
from nasrlm.labels.tables import load_table
from nasrlm.metrics import bootstrap, kendall_tau
from search_spaces.errors import UsageError
from search_spaces.networks import Networks

if TYPE_CHECKING:
    from surrogates.base import Surrogate

#: Networks kept aside at most to judge the surrogate by.
HELD_OUT = 1000


@dataclass(frozen=True)
class Labelled:
    """Networks with their labels, ``n`` of each; NaN means not measured."""

    networks: Networks
    labels: pd.DataFrame


def read_labelled(
    space_name: str, source: str, metrics: Sequence[str], *, size: int, seed: int
) -> tuple[Labelled, Labelled]:
    """Networks to learn from and others to judge by, drawn at random.

    Args:
        space_name: Registry name of the search space.
        source: ``table`` for the space's own table, the name of another table, or a CSV or parquet file with a column
            ``arch`` (official strings) and one column per metric.
        metrics: The metrics to learn; rows that have none of them are left out.
        size: Networks to learn from; 0 takes all, and none are left to judge by.
        seed: Seed of the draw.

    Raises:
        UnknownNameError: Unknown space, table or metric.
        UsageError: A file without the columns, or fewer networks than ``size``.
        InvalidArchitectureError: A string of the file that is none of the space.
        DataNotFoundError: There is no such file or table here.
    """
    space = search_spaces.get(space_name)
    if not metrics:
        raise UsageError("--metrics names nothing to learn; give one or more, comma-separated")
    for name in metrics:
        metric(name)  # raises for an unknown one
    rows: Sequence[Any]
    if Path(source).suffix in (".csv", ".parquet"):
        frame = read_own(Path(source), metrics)
        rows = [space.parse(text) for text in frame["arch"]]
    else:
        table = load_table(space_name if source == "table" else source)
        if table.space.name != space_name:
            raise UsageError(f"table {source!r} holds labels of {table.space.name!r}, not of {space_name!r}")
        table.check(metrics)
        frame, rows, space = table.frame, table.architectures, table.space
    frame = frame[list(metrics)].reset_index(drop=True)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(frame.notna().any(axis=1)))
    if size < 0 or size > len(order):
        raise UsageError(f"--size {size} must be between 0 (all) and the {len(order)} labelled networks of {source}")
    cut = size or len(order)

    def part(indices: np.ndarray) -> Labelled:
        return Labelled(Networks(space, [rows[int(i)] for i in indices]), frame.iloc[indices].reset_index(drop=True))

    return part(order[:cut]), part(order[cut : cut + HELD_OUT])


def set_aside(learn: Labelled, count: int) -> tuple[Labelled, Labelled | None]:
    """All but the last ``count`` networks, and those; they were drawn at random.

    Raises:
        UsageError: None would be left to learn from.
    """
    rest = len(learn.networks) - count
    if count < 0 or rest < 1:
        raise UsageError(f"--validation {count} must be between 0 and {len(learn.networks) - 1}, one less than --size")
    if not count:
        return learn, None
    kept, aside = learn.labels[:rest], learn.labels[rest:].reset_index(drop=True)
    return Labelled(learn.networks[:rest], kept), Labelled(learn.networks[rest:], aside)


def judge(surrogate: Surrogate, held_out: Labelled, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Kendall tau (with its 95 % interval) and mean error of every metric on networks the surrogate has not seen."""
    if len(held_out.networks) < 2:
        return []
    prediction = surrogate.predict(held_out.networks, metrics)
    rows = []
    for column, name in enumerate(prediction.metrics):
        truth, mean = held_out.labels[name].to_numpy(float), prediction.mean[:, column]
        known = np.isfinite(truth)
        if known.sum() < 2:
            continue
        tau = bootstrap(kendall_tau, truth[known], mean[known], resamples=200)
        rows.append(
            {
                "metric": name,
                "held out": int(known.sum()),
                "kendall_tau": round(tau.value, 4),
                "low": round(tau.low, 4),
                "high": round(tau.high, 4),
                "mean_error": float(np.mean(np.abs(truth[known] - mean[known]))),
            }
        )
    return rows
