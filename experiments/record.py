"""Results as files that say how they came about: command, seed, commit, machine, versions.

A CSV gets a JSON of the same name beside it; a Markdown page ends in the same facts as a list.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from nasrlm.bench.machine import machine
from nasrlm.search.folder import versions

RESULTS = Path(__file__).parents[1] / "results"


def write_csv(path: str | Path, frame: pd.DataFrame, *, command: str, seed: int | None) -> Path:
    """Write ``frame`` to ``path`` and its provenance to ``<path without suffix>.json``.

    Args:
        path: The CSV file; its folder is made.
        frame: The result, one row a finding; the index is left out.
        command: What a reader types to get it again.
        seed: Seed of everything random; None if nothing is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    path.with_suffix(".json").write_text(json.dumps(provenance(command, seed=seed), indent=2) + "\n", encoding="utf-8")
    return path


def read_rows(path: Path, keys: Sequence[str], *, texts: Sequence[str] = ()) -> pd.DataFrame:
    """The rows that an earlier stretch of an experiment wrote; none, with columns ``keys``, if it is the first.

    Args:
        path: The CSV file.
        keys: Columns that say which run a row is of.
        texts: Columns that stay texts where they look like numbers, such as hashes.
    """
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str)) if path.is_file() else pd.DataFrame(columns=list(keys))


def provenance(command: str, *, seed: int | None) -> dict[str, Any]:
    """How a result came about; the arguments are those of ``write_csv``."""
    return {
        "command": command,
        "seed": seed,
        "commit": commit(),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
    }


def as_markdown(facts: dict[str, Any]) -> str:
    """``provenance(…)`` as a list at the end of a page."""
    shown = {
        **facts,
        "command": f"`{facts['command']}`",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }
    return "".join(f"- {name}: {value}\n" for name, value in shown.items() if value is not None)


def command_of(module: str) -> str:
    """The command that runs this process: ``python -m <module>`` and the arguments it was given."""
    return " ".join(["python -m", module, *(shlex.quote(argument) for argument in sys.argv[1:])])


def print_of(settings: object) -> str:
    """A hash of all that a run depends on: a row of other settings is another run."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:8]


def commit() -> str:
    """The checked-out commit, ``+`` when tracked files differ from it; ``unknown`` outside a git checkout."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    found = git("rev-parse", "--short", "HEAD")
    return f"{found}{'+' if git('status', '--porcelain', '--untracked-files=no') else ''}" if found else "unknown"
