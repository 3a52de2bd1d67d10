"""Labels in a file of the user's own: a column ``arch`` and one column per metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nasrlm.labels.descriptions import Description
from nasrlm.labels.names import metric
from nasrlm.labels.tables import LabelTable
from search_spaces import registry
from search_spaces.errors import DataNotFoundError, UsageError


def read_own(path: Path, metrics: Sequence[str]) -> pd.DataFrame:
    """The file as a frame that has ``arch`` and ``metrics``, among whatever else it holds.

    Raises:
        DataNotFoundError: There is no such file.
        UsageError: It cannot be read, or lacks columns.
    """
    if not path.is_file():
        raise DataNotFoundError(f"{path}: no such file")
    try:
        frame = pd.read_csv(path, dtype={"arch": str}) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise UsageError(f"{path} cannot be read: {error}") from error
    if absent := [name for name in ("arch", *metrics) if name not in frame]:
        raise UsageError(f"{path} lacks the columns {', '.join(absent)}; it has: {', '.join(map(str, frame.columns))}")
    return frame


def own_table(path: Path, space: str, metrics: Sequence[str]) -> LabelTable:
    """The file as a table, called by its stem; columns ``zcp_<proxy>``, ``params`` and ``macs`` are kept too.

    Raises:
        UnknownNameError: Unknown space or metric.
        DataNotFoundError: There is no such file.
        UsageError: It cannot be read, or lacks columns.
    """
    for name in metrics:
        metric(name)  # raises for an unknown one
    frame = read_own(path, metrics)
    known = [c for c in map(str, frame.columns) if c in ("params", "macs") or c.startswith("zcp_")]
    kept = frame[list(dict.fromkeys([*metrics, *known]))].astype(float).reset_index(drop=True)
    table = Description(name=path.stem, space=space, sources=(), complete=False)
    return LabelTable(table, registry.get(space), frame[["arch"]], kept)
