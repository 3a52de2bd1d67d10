"""Tables ready for the benchmark, and what methods read of them; kept within a process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pandas as pd

from nasrlm.bench.methods import Method, proxies_of
from nasrlm.bench.protocol import Protocol
from nasrlm.bench.texts import Texts
from nasrlm.labels.own_table import own_table
from nasrlm.labels.tables import LabelTable, load_table
from search_spaces.networks import Networks
from surrogates.rlm.config import ReadingConfig

#: Folder inside that of the runs with computed zero-cost proxies: ``<table>.parquet``, one row a row of the table.
COMPUTED = "zero_cost"
#: Tables that are kept: more than a grid has, whose tasks go through all of them for every seed.
TABLES = 32


@lru_cache(maxsize=TABLES)
def open_table(table: str, labels: str, space: str, metrics: tuple[str, ...], folder: Path) -> LabelTable:
    """The table of a protocol, with its zero-cost proxies completed.

    Raises:
        UnknownNameError: Unknown table, space or metric.
        DataNotFoundError: It is not on this machine.
        UsageError: A file of labels lacks columns.
    """
    opened = own_table(Path(labels), space, metrics) if labels else load_table(table)
    opened.check(metrics)
    path = folder / COMPUTED / f"{table}.parquet"
    if path.is_file():
        values = pd.read_parquet(path).set_index("row")
        for name in values:
            if name not in opened.frame:
                opened.frame[name] = values[name].reindex(range(len(opened))).to_numpy()
    complete_proxies(opened)
    return opened


def table_of(protocol: Protocol, folder: Path) -> LabelTable:
    """``open_table`` by protocol."""
    return open_table(protocol.table, protocol.labels, protocol.space, protocol.metrics, folder)


def labels_print(table: LabelTable, metric: str) -> str:
    """A hash of all labels of ``metric``: runs on other labels are other runs."""
    values = table.frame[metric].to_numpy(dtype=np.float64)
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]


def networks(table: LabelTable, rows: np.ndarray) -> Networks:
    """The networks of ``rows``, to learn from."""
    return Networks(table.space, [table.architectures[int(row)] for row in rows])


def graphs(
    table: LabelTable, method: Method, metrics: Sequence[str], rows: np.ndarray, folder: Path
) -> Sequence[onnx.ModelProto | str]:
    """The networks of ``rows`` in the form that ``method`` predicts ``metrics`` from."""
    if method.reads == "networks":
        return networks(table, rows)
    return _texts(table, folder, method.reading(metrics))[rows]


def given(table: LabelTable, method: Method, rows: np.ndarray) -> pd.DataFrame | None:
    """The known columns of ``rows`` that ``method`` reads; None if it reads none.

    A method that reads all proxies gets their ranks among the networks of the table, in [0, 1]: their values span
    orders of magnitude.
    """
    names = list(method.given(table))
    if not names:
        return None
    frame = _ranks(table) if method.proxies else table.frame[names]
    return frame[names].iloc[rows].reset_index(drop=True)


def labels_of(table: LabelTable, method: Method, metrics: Sequence[str], rows: np.ndarray) -> pd.DataFrame:
    """What ``method`` learns from for ``metrics``: their labels, and beside them the known columns that it reads."""
    labels = table.frame[list(metrics)].iloc[rows].reset_index(drop=True)
    known = given(table, method, rows)
    return labels if known is None else labels.join(known[[name for name in known if name not in labels]])


def complete_proxies(table: LabelTable) -> None:
    """Fill proxies that are missing with those of a functionally identical network, where one has them."""
    names = [name for name in proxies_of(table) if table.frame[name].isna().any()]
    if not names:
        return
    keys = pd.Series([table.canonical(row) for row in range(len(table))], index=table.frame.index)
    known = table.frame[names]
    table.frame[names] = known.fillna(known.groupby(keys).transform("mean"))


@lru_cache(maxsize=TABLES)
def _ranks(table: LabelTable) -> pd.DataFrame:
    return table.frame[list(proxies_of(table))].rank(pct=True)


@lru_cache(maxsize=TABLES)
def _texts(table: LabelTable, folder: Path, reading: ReadingConfig) -> Texts:
    parts = [table.name, *["live"] * reading.live, *["all"] * (not reading.inlining)]
    return Texts(table, folder / "texts" / f"{'_'.join(parts)}.parquet", reading)
