"""What the graph networks share as surrogates: reading, fitting, the unit of a metric, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import onnx
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from search_spaces.errors import CheckpointError, UsageError
from surrogates.base import Prediction, Surrogate
from surrogates.checkpoint import read_config, write_config
from surrogates.gnn.encoding import Encoder, Parts, ReadingConfig, varying_cells
from surrogates.gnn.graph_data import read
from surrogates.gnn.layers import Sizes
from surrogates.gnn.training import TrainingConfig, fit_network
from surrogates.labels import given_inputs, targets
from surrogates.monotone import MonotoneMap

FORMAT = 3  # 1 knew no ReadingConfig.fuse, 2 no reading of blocks
WEIGHTS = "model.safetensors"
#: Nodes (squared, times graphs) of one forward pass of ``predict``: bounds its memory.
_BUDGET = 1 << 21
_FIX = "give them in `given`; surrogates.zero_cost computes proxies"


class Settings(Protocol):
    """Shape of a network: a frozen dataclass that can build it."""

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network for data of these sizes."""


C = TypeVar("C", bound=Settings)


class GraphSurrogate(Surrogate, Generic[C]):
    """A graph network as a ``Surrogate``; a subclass names itself and its settings.

    The network scores; ``MonotoneMap`` brings the scores of a metric to its unit and keeps their order. There is no
    uncertainty.

    Args:
        model: Shape of the network.
        training: How ``fit`` trains.
        reading: What of the graphs is read.
    """

    #: Registry name.
    name: ClassVar[str]
    #: Class of the settings.
    settings: ClassVar[type[Any]]

    def __init__(
        self, model: C | None = None, training: TrainingConfig | None = None, reading: ReadingConfig | None = None
    ) -> None:
        self.model: C = model or self.settings()
        self.training = training or TrainingConfig()
        self.reading = reading or ReadingConfig()
        self._encoder: Encoder | None = None
        self._networks: list[nn.Module] = []
        self._maps: list[MonotoneMap] = []
        self._inputs: list[tuple[float, float]] = []  # mean and deviation of each input

    def fit(self, graphs: Sequence[onnx.ModelProto], labels: pd.DataFrame) -> Self:
        """Train anew; see ``Surrogate.fit``.

        Raises:
            UsageError: Labels do not fit the graphs, or inputs are missing.
            TrainingError: A metric has fewer than 2 labels, or the loss is not finite.
        """
        names = self.training.inputs
        table = targets(len(graphs), labels, least=2, inputs=names)
        inputs = given_inputs(len(graphs), labels, names, fix="name columns of the labels in TrainingConfig.inputs")
        readings = read(graphs, "cells") if self.reading.graph == "cell" else []
        cells = varying_cells(readings)
        if not cells:
            readings = read(graphs, self.reading.without_cells)
        self._encoder = Encoder.learn(readings, self.reading, cells)
        self._inputs = [_moments(column) for column in inputs.T]
        data = self._encoder.encode(readings, self._normalised(inputs))
        values = table.to_numpy()
        moments = [_moments(column) for column in values.T]
        standard = torch.tensor([[(v - c) / s for v, (c, s) in zip(row, moments, strict=True)] for row in values])
        self.metrics, self._networks = tuple(table.columns), []
        for columns in self._groups():
            known = torch.isfinite(standard[:, columns]).any(dim=1)
            sizes = self._sizes(len(columns))
            self._networks.append(
                fit_network(
                    lambda sizes=sizes: self.model.build(sizes),  # type: ignore[misc]
                    data.rows(known),
                    standard[known][:, columns].float(),
                    self.training,
                )
            )
        scores = self._scores(readings, inputs)
        self._maps = []
        for column in range(len(self.metrics)):
            known_rows = np.isfinite(values[:, column])
            self._maps.append(MonotoneMap.fit(scores[known_rows, column], values[known_rows, column]))
        return self

    def predict(
        self,
        graphs: Sequence[onnx.ModelProto],
        metrics: Sequence[str] | None = None,
        given: pd.DataFrame | None = None,
    ) -> Prediction:
        """Means; of ``given`` the columns that ``TrainingConfig.inputs`` names are read.

        Raises:
            UsageError: Not fitted yet, or inputs are missing in ``given``.
            UnknownNameError: A metric it was not fitted on.
        """
        chosen = self.select(metrics)
        inputs = given_inputs(len(graphs), given, self.training.inputs, fix=_FIX)
        scores = self._scores(read(graphs, self._fitted.kind), inputs)
        columns = [self.metrics.index(metric) for metric in chosen]
        mean = [self._maps[column](scores[:, column]) for column in columns]
        return Prediction.of_means(chosen, np.stack(mean, axis=1) if mean else np.zeros((len(graphs), 0)))

    def save_pretrained(self, path: str | Path) -> None:
        content = {
            "model": asdict(self.model),  # type: ignore[call-overload]
            "training": asdict(self.training),
            "encoder": self._fitted.to_json(),
            "metrics": list(self.metrics),
            "maps": [scale.to_json() for scale in self._maps],
            "inputs": self._inputs,
        }
        folder = write_config(path, self.name, FORMAT, content)
        weights = {
            f"{k}.{key}": value.contiguous()
            for k, network in enumerate(self._networks)
            for key, value in network.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        folder, content = read_config(path_or_name, cls.name, FORMAT)
        try:
            lists = {key: tuple(value) if isinstance(value, list) else value for key, value in content["model"].items()}
            encoder = Encoder.from_json(content["encoder"])
            surrogate = cls(cls.settings(**lists), TrainingConfig(**content["training"]), encoder.config)
            surrogate._encoder = encoder
            surrogate.metrics = tuple(content["metrics"])
            surrogate._maps = [MonotoneMap.from_json(scale) for scale in content["maps"]]
            surrogate._inputs = [(float(centre), float(scale)) for centre, scale in content["inputs"]]
            weights = load_file(folder / WEIGHTS)
            for k, columns in enumerate(surrogate._groups()):
                network = surrogate.model.build(surrogate._sizes(len(columns))).eval()
                own = {key.removeprefix(f"{k}."): v for key, v in weights.items() if key.startswith(f"{k}.")}
                network.load_state_dict(own)
                surrogate._networks.append(network)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no complete {cls.name} surrogate: {error}") from error
        return surrogate

    @property
    def _fitted(self) -> Encoder:
        if self._encoder is None:
            raise UsageError(f"this {self.name} surrogate is not fitted yet; call fit or from_pretrained first")
        return self._encoder

    def _sizes(self, outputs: int) -> Sizes:
        encoder = self._fitted
        return Sizes(encoder.words, encoder.features, len(self._inputs), outputs, encoder.nodes)

    def _groups(self) -> list[list[int]]:
        """Columns of the metrics that share a network."""
        every = list(range(len(self.metrics)))
        return [every] if self.training.joint else [[column] for column in every]

    def _normalised(self, inputs: np.ndarray) -> np.ndarray:
        """Inputs around 0; unknown ones are 0."""
        if not self._inputs:
            return inputs
        centre, scale = np.array(self._inputs).T
        return np.nan_to_num((inputs - centre) / scale)

    def _scores(self, readings: Sequence[Parts], inputs: np.ndarray) -> np.ndarray:
        """Scores of all metrics, shape ``(n, m)``."""
        encoder = self._fitted
        if not len(readings):
            return np.zeros((0, len(self.metrics)))
        normalised = self._normalised(inputs)
        parts, begin = [], 0
        widest = max([encoder.nodes, *(sum(len(part.operations) for part in reading) for reading in readings)])
        step = max(1, min(512, _BUDGET // widest**2))
        with torch.no_grad():
            while begin < len(readings):
                chunk = slice(begin, begin + step)
                batch = encoder.encode(readings[chunk], normalised[chunk], nodes=encoder.nodes)
                parts.append(torch.cat([network(batch) for network in self._networks], dim=1))
                begin += step
        return np.asarray(torch.cat(parts).double().numpy())


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation (1 if there is none) of the known values."""
    known = values[np.isfinite(values)]
    return (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)
