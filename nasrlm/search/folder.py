"""The folder of a run: who may write it, and what is written at the end."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nasrlm.search.config import SearchConfig
from nasrlm.search.ledger import Ledger
from search_spaces.errors import RunExistsError, UsageError
from surrogates.base import Surrogate

LEDGER, FRONT, EVALUATIONS, RUN = "ledger.sqlite", "front.csv", "evaluations.csv", "run.json"
_PACKAGES = ("nasrlm", "pymoo", "moocore", "numpy", "pandas", "onnx", "onnxruntime", "torch", "transformers", "xgboost")


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        out_dir: Its folder.
        config: Its settings.
        front: One row a network of the front, best in the first objective first: ``arch`` (official string), and per
            objective ``<metric>`` (predicted), ``<metric>_std`` and ``<metric>_true`` (NaN where not known).
        evaluations: One row a true label in the order bought: ``arch``, the objectives, ``round``.
        record: The content of ``run.json``.
    """

    out_dir: Path
    config: SearchConfig
    front: pd.DataFrame
    evaluations: pd.DataFrame
    record: dict[str, Any]

    @property
    def hypervolume_fraction(self) -> float | None:
        """Share of the table's exact hypervolume that the search found; None without a table."""
        found = self.record.get("hypervolume")
        return None if found is None else float(found["fraction"])


def open_ledger(out: Path, config: SearchConfig, surrogate: Surrogate, *, resume: bool) -> Ledger:
    """The ledger of a new run in ``out``, or of the run to resume.

    Raises:
        RunExistsError: ``out`` holds a run and ``resume`` is not set.
        UsageError: The run in ``out`` has another config or surrogate.
    """
    there = [name for name in (LEDGER, FRONT, EVALUATIONS, RUN) if (out / name).exists()]
    if there and not resume:
        raise RunExistsError(
            f"{out} already holds a search ({', '.join(there)}); choose another folder, or resume it to go on with it"
        )
    if there and LEDGER not in there:
        raise UsageError(
            f"{out} holds {', '.join(there)} but no {LEDGER}, so it cannot be resumed; choose another folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{out} is not a folder; choose another place for the results") from error
    ledger = Ledger(out / LEDGER)
    try:
        _claim(ledger, out, config, surrogate)
    except BaseException:
        ledger.__exit__()
        raise
    return ledger


def _claim(ledger: Ledger, out: Path, config: SearchConfig, surrogate: Surrogate) -> None:
    identity = described(surrogate)
    stored = ledger.get("start")
    if stored is None:  # new, or it died before its first write
        ledger.set("start", {"config": config.record(), "surrogate": identity})
        return
    differences = config.differences(SearchConfig.of_record(stored["config"]))
    if stored["surrogate"] != identity:
        differences.append(f"surrogate: {identity} here, {stored['surrogate']} there")
    if differences:
        raise UsageError(f"cannot resume {out} with other settings: {'; '.join(differences)}; choose another folder")


def described(surrogate: Surrogate) -> dict[str, Any]:
    """What a surrogate is, for the record: its class, its metrics and, if it goes on from one, its checkpoint."""
    start = getattr(surrogate, "start", None)
    goes_on = {} if start is None else {"start": str(start.checkpoint)}
    return {"class": type(surrogate).__name__, "metrics": list(surrogate.metrics), **goes_on}


def write_result(result: SearchResult) -> None:
    """Write the files of a finished run, each in one step; ``run.json`` comes last and means finished."""
    _replace(result.out_dir / FRONT, result.front.to_csv(index=False))
    write_evaluations(result.out_dir, result.evaluations)
    _replace(result.out_dir / RUN, json.dumps(_finite(result.record), indent=2, ensure_ascii=False) + "\n")


def write_evaluations(out: Path, evaluations: pd.DataFrame) -> None:
    """Write the true labels bought so far."""
    _replace(out / EVALUATIONS, evaluations.to_csv(index=False))


def read_result(out: Path, config: SearchConfig) -> SearchResult | None:
    """The finished run in ``out``; None if it is not finished."""
    if not all((out / name).is_file() for name in (FRONT, EVALUATIONS, RUN)):
        return None
    front, evaluations = (pd.read_csv(out / name, dtype={"arch": str}) for name in (FRONT, EVALUATIONS))
    return SearchResult(out, config, front, evaluations, json.loads((out / RUN).read_text(encoding="utf-8")))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a search finds."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an optional one
            continue
    return found


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)  # noqa: PTH105 - atomic, and Path.replace is the same call


def _finite(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON lacks, as None."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
