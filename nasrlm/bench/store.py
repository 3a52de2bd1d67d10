"""The folder of a benchmark: one small file a run, so that a killed benchmark goes on where it was.

``<table>/<metric>/n<labels>_seed<seed>/`` holds ``draw.npz`` (rows and true values, the same for all methods), and per
method ``<method>.npz`` (predictions of the test rows, bootstrap samples of tau) and ``<method>.json`` (the scores),
which is written last: a run with it is done. ``<method>.error`` says why a run failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nasrlm.bench.files import replace_file
from nasrlm.bench.protocol import Draw, Protocol, Task, draw
from nasrlm.labels.tables import LabelTable
from search_spaces.errors import UsageError

DRAW = "draw.npz"


class Predictions(NamedTuple):
    """What is kept of a run besides its scores.

    Attributes:
        mean: Predicted values of the test rows, float32, shape ``(t,)``; empty for a run of another folder.
        resampled: Kendall tau on bootstrap samples of the test rows, which are the same for all methods.
    """

    mean: np.ndarray
    resampled: np.ndarray


@dataclass(frozen=True)
class Store:
    """The runs under one folder.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def run_folder(self, protocol: Protocol, metric: str, size: int, seed: int) -> Path:
        """Where the runs of all methods on one draw are."""
        return self.folder / protocol.table / metric / f"n{size}_seed{seed}"

    def draw(self, table: LabelTable, protocol: Protocol, metric: str, size: int, seed: int) -> Draw:
        """The rows of a draw; written down when it is first asked for.

        Raises:
            UsageError: The folder holds the same draw by another protocol, or of a table with other labels.
        """
        path = self.run_folder(protocol, metric, size, seed) / DRAW
        truth = table.frame[metric].to_numpy(dtype=float)
        if not path.is_file():
            made = draw(table, protocol, metric, size, seed)
            content = {"train": made.train, "test": made.test, "truth": truth[made.test], "limit": protocol.test}
            replace_file(path, lambda beside: np.savez_compressed(beside, **content))
        with np.load(path) as kept:
            found, values, limit = Draw(kept["train"], kept["test"]), kept["truth"], int(kept["limit"])
        if limit != protocol.test:
            raise UsageError(
                f"{self.folder} holds runs on at most {limit} test networks, asked for {protocol.test}; "
                "choose another folder"
            )
        if max(found.test.max(), found.train.max()) >= len(truth) or not np.array_equal(truth[found.test], values):
            raise UsageError(f"{self.folder} holds runs on other labels of {protocol.table!r}; choose another folder")
        return found

    def done(self, task: Task, settings: dict[str, object], *, predictions: bool = False) -> bool:
        """Whether the runs of ``task`` are there, by these settings of its method; if asked, with ``predictions``."""
        protocol, at = task.protocol, (task.size, task.seed, task.method)
        return all(
            record is not None
            and record["settings"] == plain(settings)
            and (not predictions or len(self.predictions(protocol, metric, *at).mean) > 0)
            for metric, record in ((metric, self.record(task, metric)) for metric in task.metrics)
        )

    def record(self, task: Task, metric: str) -> dict[str, Any] | None:
        """The scores of a run; None if it is not done."""
        path = self._path(task, metric, "json")
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self, task: Task, metric: str, record: dict[str, Any], predictions: Predictions) -> None:
        """Keep a finished run."""
        arrays = {name: array.astype(np.float32) for name, array in predictions._asdict().items()}
        replace_file(self._path(task, metric, "npz"), lambda beside: np.savez_compressed(beside, **arrays))
        text = json.dumps(record, indent=1) + "\n"
        replace_file(self._path(task, metric, "json"), lambda beside: beside.write_text(text, encoding="utf-8"))
        self._path(task, metric, "error").unlink(missing_ok=True)

    def restore(
        self,
        runs: pd.DataFrame,
        protocols: Sequence[Protocol],
        labels: Mapping[tuple[str, str], str],
        is_current: Callable[[Mapping[str, Any], Protocol], bool],
    ) -> int:
        """Take over finished runs of another folder that are not here, or here by earlier settings; returns how many.

        Runs by another protocol or on other labels are left. Predictions stay behind: no scatter plot can be drawn.

        Args:
            runs: As ``exported`` gives them; a table of an earlier version is left.
            protocols: What is to be run.
            labels: ``labels_print`` of the labels that are here, by table and metric.
            is_current: Whether a run is by the settings that its method has now.
        """
        by_table, taken = {protocol.table: protocol for protocol in protocols}, 0
        if not {"settings", "resampled", "test_limit", "labels"} <= set(runs):
            return 0
        for row in runs.to_dict(orient="records"):
            settings, resampled = row.pop("settings"), np.asarray(row.pop("resampled"))
            protocol, metric = by_table.get(row["table"]), str(row["metric"])
            if protocol is None or row["labels"] != labels.get((protocol.table, metric)):
                continue
            if (row["test_limit"], len(resampled)) != (protocol.test, protocol.resamples):
                continue
            task = Task(protocol, (metric,), row["method"], int(row["n_labels"]), int(row["seed"]))
            known = {str(name): value for name, value in row.items() if not pd.isna(value)}
            record, here = known | {"settings": json.loads(settings)}, self.record(task, metric)
            if here is None or (not is_current(here, protocol) and is_current(record, protocol)):
                self.write(task, metric, record, Predictions(np.zeros(0), resampled))
                taken += 1
        return taken

    def methods(self, protocols: Sequence[Protocol]) -> list[str]:
        """All methods with a finished run of ``protocols``, sorted."""
        paths = [path for protocol in protocols for path in (self.folder / protocol.table).glob("*/*/*.json")]
        return sorted({path.stem for path in paths})

    def exported(self, runs: pd.DataFrame, protocols: Sequence[Protocol]) -> pd.DataFrame:
        """``runs`` with all that ``restore`` needs: settings as JSON, and the bootstrap samples of tau."""
        by_table = {protocol.table: protocol for protocol in protocols}
        keys = zip(runs["table"], runs["metric"], runs["n_labels"], runs["seed"], runs["method"], strict=True)
        samples = [self.predictions(by_table[table], *key).resampled.round(5) for table, *key in keys]
        settings = [json.dumps(settings) for settings in runs["settings"]]
        return runs.assign(settings=settings, resampled=pd.Series(samples, index=runs.index, dtype=object))

    def write_error(self, task: Task, error: str) -> None:
        """Keep why a run failed."""
        for metric in task.metrics:
            replace_file(self._path(task, metric, "error"), lambda beside: beside.write_text(error, encoding="utf-8"))

    def truth(self, protocol: Protocol, metric: str, size: int, seed: int) -> np.ndarray:
        """True values of the test rows of a draw."""
        with np.load(self.run_folder(protocol, metric, size, seed) / DRAW) as kept:
            return np.asarray(kept["truth"])

    def predictions(self, protocol: Protocol, metric: str, size: int, seed: int, method: str) -> Predictions:
        """The predictions of a finished run."""
        with np.load(self.run_folder(protocol, metric, size, seed) / f"{method}.npz") as kept:
            return Predictions(*(kept[name] for name in Predictions._fields))

    def runs(self, protocol: Protocol) -> pd.DataFrame:
        """The scores of all finished runs of ``protocol``, one row a run."""
        rows = []
        for metric in protocol.metrics:
            for size in protocol.sizes:
                for seed in range(protocol.seeds):
                    for path in sorted(self.run_folder(protocol, metric, size, seed).glob("*.json")):
                        rows.append(json.loads(path.read_text(encoding="utf-8")))
        return pd.DataFrame(rows)

    def failures(self, protocol: Protocol) -> list[str]:
        """Failed runs of ``protocol`` and why, one line each."""
        lines = []
        for metric in protocol.metrics:
            for size in protocol.sizes:
                for seed in range(protocol.seeds):
                    for path in sorted(self.run_folder(protocol, metric, size, seed).glob("*.error")):
                        why = path.read_text(encoding="utf-8").partition("\n")[0]
                        lines.append(f"{protocol.table} {metric} n={size} seed={seed} {path.stem}: {why}")
        return lines

    def _path(self, task: Task, metric: str, suffix: str) -> Path:
        folder = self.run_folder(task.protocol, metric, task.size, task.seed)
        return folder / f"{task.method}.{suffix}"


def plain(settings: dict[str, object]) -> dict[str, Any]:
    """Settings as JSON gives them back: tuples become lists."""
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found
