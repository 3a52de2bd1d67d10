"""The linearised texts of a table's networks: milliseconds each, asked for in every run, so kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nasrlm.bench.files import replace_file
from nasrlm.labels.tables import LabelTable
from surrogates.rlm.config import ReadingConfig
from surrogates.rlm.inputs import as_text


class Texts:
    """Texts by row.

    Args:
        table: Whose networks.
        path: Parquet file that keeps them; made when first needed. If a few of its texts are not what the networks read
            today, it is of another version and is not used.
        reading: What of a network is written.
    """

    def __init__(self, table: LabelTable, path: Path, reading: ReadingConfig | None = None) -> None:
        self._table, self._path, self._reading = table, path, reading or ReadingConfig()
        self._known: dict[int, str] = {}
        if path.is_file():
            frame = pd.read_parquet(path)
            known = dict(zip(frame["row"].tolist(), frame["text"].tolist(), strict=True))
            rows = list(known)
            checked = [rows[0], rows[len(rows) // 2], rows[-1]]
            if rows[-1] < len(table) and all(known[row] == self._read(row) for row in checked):
                self._known = known

    def __getitem__(self, rows: np.ndarray) -> list[str]:
        """The texts of ``rows``."""
        wanted = [int(row) for row in rows]
        missing = [row for row in dict.fromkeys(wanted) if row not in self._known]
        for row in missing:
            self._known[row] = self._read(row)
        if missing:
            content = pd.DataFrame(sorted(self._known.items()), columns=["row", "text"])
            replace_file(self._path, content.to_parquet)
        return [self._known[row] for row in wanted]

    def _read(self, row: int) -> str:
        return as_text(self._table.space.to_onnx(self._table.architectures[row]), self._reading)
