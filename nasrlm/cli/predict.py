"""``nasrlm predict``: metrics of ONNX files, and how far the files lie from what the surrogate was trained on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasrlm.cli.models import DEFAULT_CHECKPOINT, START_ONLY
from nasrlm.cli.output import AsJson, pairs, print_json, print_rows, split

if TYPE_CHECKING:
    from surrogates.base import Familiarity

#: Operators named in a warning; the JSON holds all.
SHOWN = 6


def predict(
    files: Annotated[list[Path], typer.Argument(help="ONNX files.")],
    metrics: Annotated[str, typer.Option(help="Metrics, comma-separated; by default all it knows.")] = "",
    surrogate: Annotated[
        str, typer.Option(help="Checkpoint: a folder, or the name of a shipped one.")
    ] = DEFAULT_CHECKPOINT,
    given: Annotated[
        list[str] | None, typer.Option(help="A value already known, name=number; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict metrics of ONNX files, with uncertainty.

    Says how far each network lies from those the surrogate was trained on, and warns where that is far.

    Example: nasrlm predict net.onnx --metrics cifar10_test,pixel3_latency_ms
    """
    import pandas as pd

    from nasrlm.few_shot import is_start
    from nasrlm.labels.names import metric
    from search_spaces.errors import UsageError
    from search_spaces.files import load_onnx
    from surrogates import registry

    known = pairs(given or (), "--given")
    models = [load_onnx(file) for file in files]
    loaded = registry.load(surrogate)
    if is_start(loaded):
        raise UsageError(f"{surrogate} {START_ONLY}; `nasrlm finetune` makes of it one that predicts")
    prediction = loaded.predict(
        models, split(metrics) or None, given=pd.DataFrame([known] * len(models)) if known else None
    )
    familiarities = loaded.familiarity(models) or (None,) * len(models)
    if familiarities[0] is None:
        typer.echo(f"note: {surrogate} does not say how far a network lies from its training networks", err=True)
    for file, familiarity in zip(files, familiarities, strict=True):
        if familiarity is not None and familiarity.verdict == "far":
            typer.echo(warning(file, familiarity), err=True)
    if as_json:
        print_json(
            [
                {
                    "file": str(file),
                    "familiarity": None if near is None else {"verdict": near.verdict, **asdict(near)},
                    "predictions": {
                        name: {
                            "mean": float(prediction.mean[row, column]),
                            "std": float(prediction.std[row, column]),
                            "quantiles": dict(
                                zip(prediction.levels, map(float, prediction.quantiles[row, column]), strict=True)
                            ),
                            "unit": metric(name).unit,
                        }
                        for column, name in enumerate(prediction.metrics)
                    },
                }
                for row, (file, near) in enumerate(zip(files, familiarities, strict=True))
            ]
        )
        return
    print_rows(
        [
            {
                "file": str(file),
                "metric": name,
                "mean": float(prediction.mean[row, column]),
                "std": float(prediction.std[row, column]),
                "unit": metric(name).unit,
                "network": "unknown" if near is None else str(near),
            }
            for row, (file, near) in enumerate(zip(files, familiarities, strict=True))
            for column, name in enumerate(prediction.metrics)
        ]
    )


def warning(file: Path, familiarity: Familiarity) -> str:
    """What is said of a network that lies far from the training networks."""
    reasons = []
    if familiarity.distance > 1:
        reasons.append(f"it lies {familiarity.distance:.3g} times as far out as the farthest of them")
    if familiarity.unseen:
        more = len(familiarity.unseen) - SHOWN
        names = ", ".join(familiarity.unseen[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        reasons.append(f"none of them has {names}")
    return (
        f"warning: {file} is unlike the networks that the surrogate was trained on: {'; '.join(reasons)}. "
        "Do not rely on its predictions; finetune on labels of networks like it"
    )
