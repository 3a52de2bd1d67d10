"""Files that are there in full or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # numpy appends .npz to names without it, so the name's end stays
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    write(beside)
    beside.replace(path)
