"""A Gaussian process on what is free to know of a network: the baseline that few labels ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from search_spaces.errors import CheckpointError, UsageError
from surrogates.base import Prediction, Surrogate
from surrogates.checkpoint import read_config, write_config
from surrogates.free_targets import free_targets
from surrogates.gaussian_process import GaussianProcess
from surrogates.labels import given_inputs, targets
from surrogates.monotone import MonotoneMap

FORMAT = 1
POINTS = "points.safetensors"
_NAME = "gp"
_FIX = "give them in `given`; surrogates.zero_cost computes proxies"


@dataclass(frozen=True)
class GPConfig:
    """What it reads besides the counts.

    Attributes:
        inputs: Columns of the labels that are not learned but read, e.g. zero-cost proxies; ``predict`` expects them in
            ``given``.
    """

    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))  # JSON makes it a list


class GPSurrogate(Surrogate):
    """``GaussianProcess`` on ``free_targets``, one a metric; ``MonotoneMap`` brings its scores to the metric's unit.

    There is no uncertainty: the process knows that of ranks, not of values.

    Args:
        training: What it reads.
    """

    def __init__(self, training: GPConfig | None = None) -> None:
        self.training = training or GPConfig()
        self._centre, self._scale = np.zeros(0), np.zeros(0)
        self._processes: list[GaussianProcess] = []
        self._maps: list[MonotoneMap] = []

    def fit(self, graphs: Sequence[onnx.ModelProto], labels: pd.DataFrame) -> Self:
        """Fit anew; see ``Surrogate.fit``.

        Raises:
            UsageError: Labels do not fit the graphs, inputs are missing, or all graphs look the same.
            TrainingError: A metric has fewer than 2 labels.
        """
        names = self.training.inputs
        table = targets(len(graphs), labels, least=2, inputs=names)
        inputs = given_inputs(len(graphs), labels, names, fix="name columns of the labels in GPConfig.inputs")
        raw = np.hstack([free_targets(graphs).to_numpy(), inputs])
        self._centre, self._scale = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0)
        features = self._features(raw)
        self.metrics, self._processes, self._maps = tuple(table.columns), [], []
        for values in table.to_numpy().T:
            known = np.isfinite(values)
            process = GaussianProcess.fit(features[known], values[known])
            self._processes.append(process)
            self._maps.append(MonotoneMap.fit(process.predict(features[known]), values[known]))
        return self

    def predict(
        self,
        graphs: Sequence[onnx.ModelProto],
        metrics: Sequence[str] | None = None,
        given: pd.DataFrame | None = None,
    ) -> Prediction:
        """Means; of ``given`` the columns that ``GPConfig.inputs`` names are read.

        Raises:
            UsageError: Not fitted yet, or inputs are missing in ``given``.
            UnknownNameError: A metric it was not fitted on.
        """
        if not self._processes:
            raise UsageError("this gp surrogate is not fitted yet; call fit or from_pretrained first")
        chosen = self.select(metrics)
        if not len(graphs):
            return Prediction.of_means(chosen, np.zeros((0, len(chosen))))
        inputs = given_inputs(len(graphs), given, self.training.inputs, fix=_FIX)
        features = self._features(np.hstack([free_targets(graphs).to_numpy(), inputs]))
        columns = [self.metrics.index(metric) for metric in chosen]
        mean = [self._maps[column](self._processes[column].predict(features)) for column in columns]
        return Prediction.of_means(chosen, np.stack(mean, axis=1) if mean else np.zeros((len(graphs), 0)))

    def save_pretrained(self, path: str | Path) -> None:
        content = {
            "training": asdict(self.training),
            "metrics": list(self.metrics),
            "maps": [scale.to_json() for scale in self._maps],
            "settings": [
                {"length": p.length, "linear": p.linear, "noise": p.noise, "likelihood": p.likelihood}
                for p in self._processes
            ],
        }
        folder = write_config(path, _NAME, FORMAT, content)
        arrays = {"centre": self._centre, "scale": self._scale}
        for index, process in enumerate(self._processes):
            arrays |= {f"features_{index}": process.features, f"weights_{index}": process.weights}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / POINTS)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        folder, content = read_config(path_or_name, _NAME, FORMAT)
        try:
            surrogate, arrays = cls(GPConfig(**content["training"])), load_file(folder / POINTS)
            surrogate.metrics = tuple(content["metrics"])
            surrogate._centre, surrogate._scale = arrays["centre"], arrays["scale"]
            surrogate._maps = [MonotoneMap.from_json(scale) for scale in content["maps"]]
            surrogate._processes = [
                GaussianProcess(arrays[f"features_{index}"], arrays[f"weights_{index}"], **settings)
                for index, settings in enumerate(content["settings"])
            ]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no complete gp surrogate: {error}") from error
        return surrogate

    def _features(self, raw: np.ndarray) -> np.ndarray:
        """Numbers that vary over the training graphs, around 0 in units of their deviation; unknown ones are 0."""
        varied = self._scale > 0
        return np.nan_to_num((raw[:, varied] - self._centre[varied]) / self._scale[varied])
