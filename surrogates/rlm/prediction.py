"""From graphs to a ``Prediction``, chunk by chunk, so that memory does not grow with the number of graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import pandas as pd
import torch

from surrogates.base import Prediction
from surrogates.numbers import NumberFormat
from surrogates.progress import Progress
from surrogates.rlm.config import DecodingConfig, ReadingConfig
from surrogates.rlm.decoding import Given, Outcomes, expand, mixture, remember_given, sample
from surrogates.rlm.inputs import EncodedText, collate
from surrogates.rlm.labelled import texts_in_orders
from surrogates.rlm.model import Memory, RLMNetwork
from surrogates.rlm.precision import autocast
from surrogates.rlm.runtimes import EncoderRuntime
from surrogates.rlm.scales import Scale

#: Graphs whose texts, inputs and outcomes are in memory at a time; sorted by length among themselves.
CHUNK = 4096


@dataclass(frozen=True)
class Readout:
    """A network with all that is needed to read its numbers out.

    Attributes:
        network: In eval mode.
        runtime: Runs the encoder.
        reading: What of a graph is read.
        decoding: How to read numbers.
        metrics: Names of all metrics of the network.
        scales: One per metric.
        temperatures: One per metric.
        spreads: By what each metric's distribution is stretched about its median; see ``surrogates.rlm.calibration``.
    """

    network: RLMNetwork
    runtime: EncoderRuntime
    reading: ReadingConfig
    decoding: DecodingConfig
    metrics: tuple[str, ...]
    scales: tuple[Scale, ...]
    temperatures: tuple[float, ...]
    spreads: tuple[float, ...]

    def predict(
        self,
        graphs: Sequence[onnx.ModelProto | str],
        encode: Callable[[Sequence[onnx.ModelProto | str]], Sequence[EncodedText]],
        names: Sequence[str],
        given: pd.DataFrame | None,
        *,
        progress: bool = False,
    ) -> Prediction:
        """Mean, deviation and quantiles of ``names`` for ``graphs``; see ``RLM.predict``.

        Args:
            graphs: ``n`` graphs; only ``CHUNK`` of them are asked for at a time.
            encode: Makes inputs of graphs.
            names: The ``m`` metrics.
            given: ``n`` rows of known values, or None.
            progress: Show a progress bar.
        """
        mean = np.empty((len(graphs), len(names)))
        std = np.empty_like(mean)
        quantiles = np.empty((*mean.shape, len(self.decoding.levels)))
        generator = self.generator()
        with Progress("predicting", len(graphs) * self.decoding.readings, show=progress) as bar:
            for start in range(0, len(graphs), CHUNK):
                part = slice(start, start + CHUNK)
                known = None if given is None else given.iloc[part]
                outcomes = self.read(graphs[part], encode, names, known, generator, bar)
                for column, name in enumerate(names):
                    scale, outcome = self._scale(name), outcomes[name]
                    point = outcome.point(scale.centre, self.decoding.aggregate)
                    spread = self.spreads[self.metrics.index(name)]
                    outcome = outcome.stretched(spread) if spread != 1 else outcome
                    mean[part, column] = scale.inverse(point[:, 0])
                    deviation = (scale.inverse(outcome.values[:, 0]) - mean[part, column, None]) ** 2
                    std[part, column] = np.sqrt((deviation * outcome.weights[:, 0]).sum(-1))
                    quantiles[part, column] = scale.inverse(outcome.quantiles(self.decoding.levels)[:, 0])
        return Prediction(tuple(names), mean, std, quantiles, self.decoding.levels)

    def read(
        self,
        graphs: Sequence[onnx.ModelProto | str],
        encode: Callable[[Sequence[onnx.ModelProto | str]], Sequence[EncodedText]],
        names: Sequence[str],
        given: pd.DataFrame | None,
        generator: torch.Generator,
        bar: Progress,
    ) -> dict[str, Outcomes]:
        """The distribution of each metric on its scale, over all readings, not yet stretched; as ``predict``."""
        with without_collector():
            count, seed = self.decoding.readings, self.decoding.seed
            orders = texts_in_orders(graphs, count, self.reading, seed=seed, by_content=True)
        readings = [self.outcomes(encode(order), names, given, generator, bar) for order in orders]
        return {name: mixture([reading[name] for reading in readings]) for name in names}

    def generator(self) -> torch.Generator:
        """The source of draws, at its start."""
        return torch.Generator().manual_seed(self.decoding.seed)

    def outcomes(
        self,
        graphs: Sequence[EncodedText],
        names: Sequence[str],
        given: pd.DataFrame | None,
        generator: torch.Generator,
        bar: Progress,
    ) -> dict[str, Outcomes]:
        """The distribution of each metric on its scale, ``(n, 1, k)``."""
        groups: dict[NumberFormat, list[str]] = {}
        for name in names:
            groups.setdefault(self._scale(name).format, []).append(name)
        order = sorted(range(len(graphs)), key=lambda row: len(graphs[row].ids))
        size, device = self.decoding.batch_size, next(self.network.parameters()).device
        parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in names}
        with torch.inference_mode(), autocast(self.decoding.precision, device):
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                memory = self.runtime.memory(collate([graphs[row] for row in rows], device))
                known = self._given(given, rows, memory)
                for number_format, members in groups.items():
                    found = self._decode(memory, members, number_format, known, generator)
                    for i, name in enumerate(members):
                        parts[name].append((found.values[:, i : i + 1], found.weights[:, i : i + 1]))
                bar.advance(steps=len(rows))
        back = np.argsort(order)
        return {
            name: Outcomes(np.concatenate([v for v, _ in found])[back], np.concatenate([w for _, w in found])[back])
            for name, found in parts.items()
            if found
        } or {name: Outcomes(np.empty((0, 1, 1)), np.empty((0, 1, 1))) for name in names}

    def _decode(
        self,
        memory: Memory,
        names: Sequence[str],
        number_format: NumberFormat,
        known: Given | None,
        generator: torch.Generator,
    ) -> Outcomes:
        indices = [self.metrics.index(name) for name in names]
        warmth = [self.temperatures[index] for index in indices]
        if self.decoding.method == "exact":
            return expand(self.network, memory, indices, number_format, self.decoding.beams, known, warmth)
        count = self.decoding.samples
        return sample(self.network, memory, indices, number_format, count, generator, known, warmth)

    def _given(self, given: pd.DataFrame | None, rows: Sequence[int], memory: Memory) -> Given | None:
        if given is None or not len(given.columns):
            return None
        names = [str(column) for column in given.columns]
        steps = max(len(scale.format.steps) for scale in self.scales)
        tokens = np.full((len(rows), len(names), steps), -1, dtype=np.int64)
        for column, name in enumerate(names):
            scale = self._scale(name)
            numbers = scale.format.encode(scale.forward(given.iloc[list(rows), column].to_numpy(dtype=float)))
            tokens[:, column, : numbers.shape[1]] = numbers
        indices = [self.metrics.index(name) for name in names]
        return remember_given(self.network, memory, indices, torch.from_numpy(tokens))

    def _scale(self, metric: str) -> Scale:
        return self.scales[self.metrics.index(metric)]


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector of cycles off: texts make none, but many small objects, for which it would walk every cache.

    It takes a fifth of the time otherwise, more the fuller the caches are.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
