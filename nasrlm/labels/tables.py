"""Tables of true labels: found on disk, checked, merged, looked up by architecture."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd

from nasrlm.labels.descriptions import DESCRIPTIONS, Column, Description, Source, description
from search_spaces import registry
from search_spaces.base import Architecture, SearchSpace
from search_spaces.errors import DataNotFoundError, NasrlmError, UnknownNameError

#: Environment variable with the folder of the tables.
DATA_VARIABLE = "NASRLM_DATA"


class TableError(NasrlmError, ValueError):
    """A table whose columns or rows are not what its description says."""


class NotInTableError(NasrlmError, KeyError):
    """An architecture for which a table has no row."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table that is present: what ``load_table(name)`` would give, found without reading the rows."""

    name: str
    space: str
    rows: int
    metrics: tuple[str, ...]
    files: tuple[Path, ...]


def data_dirs() -> tuple[Path, ...]:
    """Where tables are looked for, in order: ``$NASRLM_DATA`` if set, then the user's cache folder of the platform."""
    import platformdirs

    cache = Path(platformdirs.user_cache_dir("nasrlm"))
    chosen = os.environ.get(DATA_VARIABLE)
    return (Path(chosen).expanduser(), cache) if chosen else (cache,)


def data_dir() -> Path:
    """Where tables are put: the first of ``data_dirs()``."""
    return data_dirs()[0]


def available() -> list[TableInfo]:
    """The tables whose main file is present, in the order of their descriptions."""
    return [_info(table) for table in DESCRIPTIONS.values() if _find(table.sources[0]) is not None]


class Architectures(Sequence[Architecture]):
    """The architectures of a table's rows; each is read from its key when first asked for."""

    def __init__(self, space: SearchSpace, table: Description, keys: pd.DataFrame) -> None:
        self._space, self._table = space, table
        self._keys = [keys[column].to_numpy() for column in table.key]
        self._read: dict[int, Architecture] = {}

    def __len__(self) -> int:
        return len(self._keys[0])

    @overload
    def __getitem__(self, row: int) -> Architecture: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Architecture]: ...
    def __getitem__(self, row: int | slice) -> Architecture | Sequence[Architecture]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        row = range(len(self))[row]  # negative indices, and IndexError past the end
        if row not in self._read:
            self._read[row] = self._table.read(self._space, *(column[row] for column in self._keys))
        return self._read[row]


class LabelTable:
    """True labels of many architectures of one space.

    Attributes:
        name: Name of the table.
        space: The search space.
        architectures: One architecture a row, read lazily.
        frame: One row an architecture, one column a metric, NaN where not measured; the index is the official one.
        complete: Whether every architecture of the space has a row.
        missing: Files that would add metrics but are not on this machine.
    """

    def __init__(
        self,
        table: Description,
        space: SearchSpace,
        keys: pd.DataFrame,
        frame: pd.DataFrame,
        missing: Sequence[str] = (),
    ) -> None:
        self.name, self.space, self.frame = table.name, space, frame
        self.complete, self.missing = table.complete, tuple(missing)
        self.architectures = Architectures(space, table, keys)
        self._match = table.match
        self._canonical: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[tuple[Architecture, pd.Series]]:
        """Every row: its architecture and its labels, one entry per metric."""
        return ((arch, self.frame.iloc[row]) for row, arch in enumerate(self.architectures))

    def __contains__(self, arch: object) -> bool:
        return isinstance(arch, Architecture) and self.row(arch) is not None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.frame.columns)

    @property
    def distinct(self) -> int:
        """Number of different architectures; a few tables measured some twice."""
        return len(self) if self._match == "sorted_canonical" else len(self._rows)

    def canonical(self, row: int) -> str:
        """``space.canonical`` of the architecture in ``row``; worked out once."""
        if row not in self._canonical:
            self._canonical[row] = self.space.canonical(self.architectures[row])
        return self._canonical[row]

    def row(self, arch: Architecture) -> int | None:
        """Position of ``arch`` in ``frame``, None if it has no row."""
        if arch.space != self.space.name:
            return None
        if self._match == "genome":
            return self._rows.get(arch.genome)
        key = self.space.canonical(arch)
        return self._rows.get(key) if self._match == "canonical" else self._bisect(key)

    def lookup(self, arch: Architecture) -> pd.Series:
        """The labels of ``arch``, one entry per metric.

        Raises:
            NotInTableError: The table has no row for it.
        """
        row = self.row(arch)
        if row is None:
            text = self.space.format(arch) if arch.space == self.space.name else f"{arch}"
            raise NotInTableError(f"table {self.name!r} has no row for {text}")
        return self.frame.iloc[row]

    def labels(self, archs: Iterable[Architecture], metrics: Sequence[str]) -> pd.DataFrame:
        """Values of ``metrics``, one row per architecture in the given order; NaN for those without a row.

        Raises:
            UnknownNameError: The table has no such metric.
        """
        self.check(metrics)
        rows = np.array([-1 if (row := self.row(arch)) is None else row for arch in archs], dtype=int)
        values = self.frame[list(metrics)].to_numpy(dtype=float)[rows]  # -1 reads some row, overwritten next
        values[rows < 0] = np.nan
        return pd.DataFrame(values, columns=list(metrics))

    def check(self, metrics: Iterable[str]) -> None:
        """Raise ``UnknownNameError`` for a metric without a column, naming the files that are not there."""
        for metric in metrics:
            if metric not in self.frame:
                kind = f"metric of table {self.name!r}"
                if self.missing:
                    kind += f" (not on this machine: {', '.join(self.missing)})"
                raise UnknownNameError(kind, metric, self.metrics)

    @cached_property
    def _rows(self) -> dict[tuple[int, ...] | str, int]:
        rows: dict[tuple[int, ...] | str, int] = {}
        for row, arch in enumerate(self.architectures):
            rows.setdefault(arch.genome if self._match == "genome" else self.canonical(row), row)
        return rows

    def _bisect(self, key: str) -> int | None:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            found = self.canonical(middle)
            if found == key:
                return middle
            low, high = (middle + 1, high) if found < key else (low, middle)
        return None


def load_table(space_name: str, *, space: SearchSpace | None = None) -> LabelTable:
    """Load a table of labels.

    Args:
        space_name: Name of the table: that of its search space, or ``<space>_<what>`` for a second table of a space.
        space: The space to read the architectures with; the registry's by default.

    Raises:
        UnknownNameError: No table has that name.
        DataNotFoundError: Its main file is not on this machine.
        TableError: A file lacks columns or rows that its description names.
    """
    table = description(space_name)
    main = _read(table.sources[0], (*table.key, *([table.index] if table.index else [])))
    space = registry.get(table.space, **table.options(main)) if space is None else space
    frame = _metrics(main, table.sources[0])
    missing = []
    for source in table.sources[1:]:
        if _find(source) is None:
            missing.append(source.file)
            continue
        extra = _read(source, table.key[:1])
        values = _metrics(extra, source)
        values.index = pd.Index(extra[table.key[0]])
        if not values.index.is_unique:
            raise TableError(f"{source.file}: column {table.key[0]!r} holds an architecture more than once")
        values = values.reindex(main[table.key[0]])
        new = [name for name in values if name not in frame]  # a metric belongs to the first file that has it
        frame = pd.concat([frame, values[new].set_axis(frame.index, axis=0)], axis=1)
    frame.index = pd.Index(main[table.index]) if table.index else pd.RangeIndex(len(main), name="index")
    return LabelTable(table, space, main[list(table.key)], frame, missing)


def read_file(file: str) -> pd.DataFrame:
    """A parquet file of the data folders as it is, e.g. the official hashes of ``nasbench101_hash_sample.parquet``.

    Raises:
        DataNotFoundError: No data folder has it.
    """
    return _read(Source(file, (), "the project's data folder"), ())


def _find(source: Source) -> Path | None:
    return next((path for folder in data_dirs() if (path := folder / source.file).is_file()), None)


def _read(source: Source, required: Iterable[str]) -> pd.DataFrame:
    path = _find(source)
    if path is None:
        looked = " and ".join(str(folder) for folder in data_dirs())
        raise DataNotFoundError(
            f"{source.file} not found in {looked}. Make it from {source.official} (`nasrlm data --help`) or set "
            f"{DATA_VARIABLE} to a folder that has it."
        )
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise TableError(f"{path} is no readable parquet file: {error}") from error
    absent = [column for column in required if column not in frame]
    if absent:
        raise TableError(f"{path} lacks the columns {', '.join(absent)}; it has: {', '.join(frame.columns)}")
    return frame


def _names(columns: Iterable[str], source: Source, rule: Column) -> dict[str, str]:
    """Column of the file -> metric, by one rule."""
    names = {column: match.expand(rule.metric) for column in columns if (match := re.fullmatch(rule.pattern, column))}
    if not names:
        raise TableError(f"{source.file} has no column that matches {rule.pattern!r}; it has: {', '.join(columns)}")
    return names


def _metrics(frame: pd.DataFrame, source: Source) -> pd.DataFrame:
    series = {}
    for rule in source.columns:
        for column, name in _names(frame.columns, source, rule).items():
            values = frame[column]
            if not pd.api.types.is_numeric_dtype(values):
                raise TableError(f"{source.file}: column {column!r} must hold numbers, found {values.dtype}")
            # Scaled in double precision: units of a single-precision column in millions would be rounded again.
            series[name] = values.astype(float) * rule.scale if rule.scale != 1 else values
    return pd.DataFrame(series, index=frame.index)


def _info(table: Description) -> TableInfo:
    import pyarrow.parquet

    metrics: dict[str, None] = {}
    files, rows = [], 0
    for source in table.sources:
        path = _find(source)
        if path is None:
            continue
        content = pyarrow.parquet.ParquetFile(path)
        rows = rows or content.metadata.num_rows
        for rule in source.columns:
            metrics.update(dict.fromkeys(_names(content.schema_arrow.names, source, rule).values()))
        files.append(path)
    return TableInfo(table.name, table.space, rows, tuple(metrics), tuple(files))
