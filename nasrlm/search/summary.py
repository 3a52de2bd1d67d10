"""What a finished search says: its front, its labels, and how much of the possible it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nasrlm.labels.measured import MeasuredLabels
from nasrlm.labels.tables import LabelTable
from nasrlm.pareto import HypervolumeFraction, costs_of
from nasrlm.search.config import SearchConfig
from nasrlm.search.folder import described, versions
from nasrlm.search.ledger import Label, Ledger
from nasrlm.search.predictor import Predictor
from search_spaces.base import Architecture, SearchSpace
from surrogates.base import Surrogate


def front_frame(
    space: SearchSpace,
    config: SearchConfig,
    front: Sequence[Architecture],
    predictor: Predictor,
    table: LabelTable | MeasuredLabels | None,
) -> pd.DataFrame:
    """``SearchResult.front``: predictions of the final model, and true values where they are at hand."""
    mean, std = predictor.predict(front)
    known = [name for name in config.objectives if table is not None and name in table.metrics]
    truth = table.labels(front, known) if table is not None else pd.DataFrame()
    columns: dict[str, Any] = {"arch": [space.format(arch) for arch in front]}
    for index, name in enumerate(config.objectives):
        columns[name] = mean[:, index]
        columns[f"{name}_std"] = std[:, index]
        columns[f"{name}_true"] = truth[name].to_numpy() if name in known else np.full(len(front), np.nan)
    frame = pd.DataFrame(columns)
    first = config.objectives[0]
    best = frame[f"{first}_true"] if config.budget else frame[first]
    order = np.argsort(costs_of(pd.DataFrame({first: best}), [first])[:, 0], kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def evaluations_frame(space: SearchSpace, config: SearchConfig, labels: Sequence[Label]) -> pd.DataFrame:
    """``SearchResult.evaluations``."""
    columns: dict[str, Any] = {"arch": [space.format(Architecture(space.name, label.genome)) for label in labels]}
    for index, name in enumerate(config.objectives):
        columns[name] = [label.values[index] for label in labels]
    columns["round"] = [label.round for label in labels]
    return pd.DataFrame(columns)


def record_of(
    config: SearchConfig,
    surrogate: Surrogate,
    ledger: Ledger,
    table: LabelTable | None,
    front: pd.DataFrame,
    evaluations: pd.DataFrame,
) -> dict[str, Any]:
    """The content of ``run.json``."""
    record: dict[str, Any] = {
        "config": config.record(),
        "seed": config.seed,
        "surrogate": described(surrogate),
        "versions": versions(),
        "timings": {stage: round(seconds, 3) for stage, seconds in ledger.seconds().items()},
        "counts": {"predictions": ledger.count_predictions(), "labels": len(evaluations), "front": len(front)},
        "hypervolume": None,
        "exact_front": [],
    }
    # The share of a table that is itself a sample says something only of a search among its rows.
    if table is not None and set(config.objectives) <= set(table.metrics) and (table.complete or config.budget):
        quality = HypervolumeFraction(table.frame, config.objectives)
        truth = front[[f"{name}_true" for name in config.objectives]].set_axis(list(config.objectives), axis=1)
        record["hypervolume"] = {
            "fraction": quality.fraction(evaluations if config.budget else truth),
            "of": f"the exact front of table {table.name}, {int(quality.front.sum())} networks",
            "labels": [
                {"labels": int(end), "fraction": quality.fraction(evaluations.iloc[:end])}
                for end in np.flatnonzero(np.diff(evaluations["round"], append=-1)) + 1
            ],
        }
        record["exact_front"] = [
            {
                "arch": table.space.format(table.architectures[int(row)]),
                **table.frame.iloc[row][list(config.objectives)],
            }
            for row in np.flatnonzero(quality.front)
        ]
    return record
