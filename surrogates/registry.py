"""Surrogates by name, and checkpoints by name or folder.

A checkpoint is a folder whose ``config.json`` names, under the key ``surrogate``, the class that wrote it. Shipped ones
lie in ``surrogates/checkpoints/<name>/``.
"""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from search_spaces.errors import CheckpointError, UnknownNameError
from surrogates.base import Surrogate

#: Entry-point group under which a distribution offers ``name = "module:Class"``.
ENTRY_POINT_GROUP = "nasrlm.surrogates"

#: Built-in surrogates; imported when first asked for.
BUILT_IN = {
    "rlm": "surrogates.rlm:RLM",
    "xgboost": "surrogates.tabular:XGBoostSurrogate",
    "gp": "surrogates.gp:GPSurrogate",
    "mlp": "surrogates.mlp:MLP",
    "gcn": "surrogates.gnn.gcn:GCN",
    "gin": "surrogates.gnn.gin:GIN",
    "gat": "surrogates.gnn.gat:GAT",
    "flan": "surrogates.gnn.flan:FLAN",
    "flops": "surrogates.scalar:FLOPs",
    "params": "surrogates.scalar:Params",
    "nwot": "surrogates.scalar:NWOT",
    "synflow": "surrogates.scalar:Synflow",
    "jacov": "surrogates.scalar:Jacov",
    "snip": "surrogates.scalar:Snip",
    "grad_norm": "surrogates.scalar:GradNorm",
    "zen": "surrogates.scalar:Zen",
}

#: The folder of the shipped checkpoints.
CHECKPOINTS = Path(__file__).parent / "checkpoints"
CONFIG = "config.json"
#: Key of ``config.json`` that holds the registry name of the class that wrote the folder.
KEY = "surrogate"


def names() -> list[str]:
    """Names of all surrogates, built-in and plugged in, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))})


def get(name: str) -> type[Surrogate]:
    """The surrogate class called ``name``.

    Raises:
        UnknownNameError: No surrogate has that name.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        surrogate: type[Surrogate] = getattr(import_module(module), attribute)
        return surrogate
    entry = next((entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == name), None)
    if entry is None:
        raise UnknownNameError("surrogate", name, names())
    plugged: type[Surrogate] = entry.load()
    return plugged


def create(name: str) -> Surrogate:
    """A new surrogate of the class called ``name``, with its default settings, not fitted yet.

    Raises:
        UnknownNameError: No surrogate has that name.
    """
    return get(name)()


def checkpoints() -> list[str]:
    """Names of the shipped checkpoints, sorted."""
    return sorted(config.parent.name for config in CHECKPOINTS.glob(f"*/{CONFIG}"))


def checkpoint_path(path_or_name: str | Path) -> Path:
    """The folder of a checkpoint.

    Args:
        path_or_name: A folder, or the name of a shipped checkpoint; an existing folder wins.

    Raises:
        UnknownNameError: There is neither a folder nor a shipped checkpoint of that name.
        CheckpointError: The path is a file.
    """
    path = Path(path_or_name)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file; a checkpoint is a folder that holds {CONFIG}")
    if (name := str(path_or_name)) in checkpoints():
        return CHECKPOINTS / name
    raise UnknownNameError("checkpoint (neither a folder nor a shipped one)", name, checkpoints())


def load(path_or_name: str | Path) -> Surrogate:
    """Load a checkpoint with whatever class wrote it.

    Args:
        path_or_name: A folder that ``save_pretrained`` wrote, or the name of a shipped checkpoint.

    Raises:
        UnknownNameError: No such checkpoint, or it names a surrogate that is not installed.
        CheckpointError: The folder is no checkpoint, or is incomplete or of another format version.
    """
    path = checkpoint_path(path_or_name)
    config = path / CONFIG
    if not config.is_file():
        raise CheckpointError(f"{path} is no checkpoint: it holds no {CONFIG}; give a folder that `nasrlm train` wrote")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{config} is not JSON: {error}") from error
    name = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise CheckpointError(f"{config} does not say under {KEY!r} which surrogate wrote it; choose from: {names()}")
    return get(name).from_pretrained(path)
