"""A Gaussian process on what is free to know of a network: the baseline that few labels ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import onnx
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from search_spaces.errors import CheckpointError, UnknownNameError, UsageError
from surrogates.base import Prediction, Surrogate
from surrogates.checkpoint import read_config, write_config
from surrogates.free_targets import count_sets
from surrogates.gaussian_process import LEAST_NOISE, GaussianProcess, Kernel, Term, refuse_noise
from surrogates.genomes import one_hot
from surrogates.labels import given_inputs, targets
from surrogates.monotone import MonotoneMap
from surrogates.shaped_operations import READINGS, Reading, by_reading, matrix, vocabulary

FORMAT = 4
POINTS = "points.safetensors"
#: Sets of counts, in the order of ``count_sets``: of the live part of a network, of all of it, and all together.
COUNTS = ("live", "whole", "both")
GENES = "genes"
_NAME = "gp"
_FIX = "give them in `given`; surrogates.zero_cost computes proxies"


@dataclass(frozen=True)
class GPConfig:
    """What it reads.

    Attributes:
        inputs: Columns of the labels that are not learned but read, e.g. zero-cost proxies; ``predict`` expects them in
            ``given``.
        counts: Sets of counts, of ``COUNTS``: a metric is learned from each, and each counts by how likely it makes
            the labels.
        genes: Whether genes are read beside each, which say what is where in a network; the more genes two networks
            share, the more alike they are. Needs ``Networks``.
        shaped: Whether it is read how often each operation occurs at each of its shapes, too
            (``surrogates.shaped_operations``), by which latencies add up.
        least_noise: Least variance of noise that is considered, of labels of variance 1.
    """

    inputs: tuple[str, ...] = ()
    counts: tuple[str, ...] = COUNTS
    genes: bool = False
    shaped: bool = False
    least_noise: float = LEAST_NOISE

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))  # JSON makes it a list
        object.__setattr__(self, "counts", tuple(self.counts))
        for name in self.counts:
            if name not in COUNTS:
                raise UnknownNameError("set of counts", name, COUNTS)
        if not self.counts:
            raise UsageError(f"counts is empty; choose from {', '.join(COUNTS)}")
        refuse_noise(self.least_noise)

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets that are read."""
        return (*self.counts, *self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """Sets of what networks are made of, which are read beside the others."""
        return (*([GENES] if self.genes else []), *(READINGS if self.shaped else []))


class GPSurrogate(Surrogate):
    """``GaussianProcess`` on counts, one a metric; ``MonotoneMap`` brings its scores to the metric's unit.

    There is no uncertainty: the process knows that of ranks, not of values.

    Args:
        training: What it reads.
    """

    def __init__(self, training: GPConfig | None = None) -> None:
        self.training = training or GPConfig()
        self._operations: Mapping[Reading, tuple[str, ...]] = {}
        self._standards: dict[str, _Standard] = {}
        self._fitted: list[_Fitted] = []

    def fit(self, graphs: Sequence[onnx.ModelProto], labels: pd.DataFrame) -> Self:
        """Fit anew; see ``Surrogate.fit``.

        Raises:
            UsageError: Labels do not fit the graphs, inputs are missing, genes of bare graphs are asked for, or all
                graphs look the same.
            TrainingError: A metric has fewer than 2 labels.
        """
        names = self.training.inputs
        table = targets(len(graphs), labels, least=2, inputs=names)
        inputs = given_inputs(len(graphs), labels, names, fix="name columns of the labels in GPConfig.inputs")
        shaped, parts = by_reading(graphs) if self.training.shaped else {}, self.training.parts
        known_operations = {reading: vocabulary(counted) for reading, counted in shaped.items()}
        found = self._numbers(graphs, inputs, known_operations)
        standards = {name: _Standard.of(numbers, alike=name in parts) for name, numbers in found.items()}
        features = [standards[name](numbers) for name, numbers in found.items()]
        common = range(len(self.training.counts), len(features))
        fitted = []
        for values in table.to_numpy().T:
            known = np.isfinite(values)
            sets = [columns[known] for columns in features]
            process = GaussianProcess.fit(sets, values[known], common, self.training.least_noise)
            fitted.append(_Fitted(process, MonotoneMap.fit(process.predict(sets), values[known])))
        self.metrics, self._standards, self._fitted = tuple(table.columns), standards, fitted
        self._operations = known_operations
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
        if not self._fitted:
            raise UsageError("this gp surrogate is not fitted yet; call fit or from_pretrained first")
        chosen = self.select(metrics)
        if not len(graphs):
            return Prediction.of_means(chosen, np.zeros((0, len(chosen))))
        inputs = given_inputs(len(graphs), given, self.training.inputs, fix=_FIX)
        found = self._numbers(graphs, inputs, self._operations)
        features = [self._standards[name](numbers) for name, numbers in found.items()]
        fitted = [self._fitted[self.metrics.index(metric)] for metric in chosen]
        mean = [one.scale(one.process.predict(features)) for one in fitted]
        return Prediction.of_means(chosen, np.stack(mean, axis=1) if mean else np.zeros((len(graphs), 0)))

    def save_pretrained(self, path: str | Path) -> None:
        content = {
            "training": asdict(self.training),
            "metrics": list(self.metrics),
            "operations": dict(self._operations),
            "fitted": [one.to_json() for one in self._fitted],
        }
        folder = write_config(path, _NAME, FORMAT, content)
        arrays: dict[str, np.ndarray] = {}
        for name, standard in self._standards.items():
            arrays |= {f"centre_{name}": standard.centre, f"scale_{name}": standard.scale}
        for index, one in enumerate(self._fitted):
            arrays |= {f"{index}_{name}": array for name, array in one.arrays().items()}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / POINTS)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        folder, content = read_config(path_or_name, _NAME, FORMAT)
        try:
            surrogate, arrays = cls(GPConfig(**content["training"])), load_file(folder / POINTS)
            surrogate.metrics = tuple(content["metrics"])
            readings = READINGS if surrogate.training.shaped else ()
            surrogate._operations = {reading: tuple(content["operations"][reading]) for reading in readings}
            surrogate._standards = {
                name: _Standard(arrays[f"centre_{name}"], arrays[f"scale_{name}"]) for name in surrogate.training.sets
            }
            surrogate._fitted = [
                _Fitted.of(one, {name.removeprefix(f"{index}_"): array for name, array in arrays.items()})
                for index, one in enumerate(content["fitted"])
            ]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no complete gp surrogate: {error}") from error
        return surrogate

    def _numbers(
        self, graphs: Sequence[onnx.ModelProto], inputs: np.ndarray, operations: Mapping[Reading, tuple[str, ...]]
    ) -> dict[str, np.ndarray]:
        """What is known of ``n`` graphs, ``(n, m)`` by set; ``operations`` are those to count, by reading."""
        sets = dict(zip(COUNTS, count_sets(graphs), strict=True))
        found = {counts: np.hstack([sets[counts], inputs]) for counts in self.training.counts}
        if self.training.genes:
            found[GENES] = one_hot(graphs, instead="GPConfig(genes=False)")
        if self.training.shaped:
            shaped = by_reading(graphs)
            found |= {reading: matrix(counted, operations[reading]) for reading, counted in shaped.items()}
        return found


class _Standard(NamedTuple):
    """Mean and deviation of numbers ``(m,)`` over the training graphs."""

    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, *, alike: bool) -> _Standard:
        """Those of ``(n, m)`` numbers, NaN where unknown; ``alike``: one deviation for all of them."""
        centre, scale = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        return cls(centre, np.full_like(scale, np.sqrt(np.mean(scale**2)))) if alike else cls(centre, scale)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers that vary over the training graphs, around 0 in units of their deviation; unknown ones are 0."""
        varied = self.scale > 0
        return np.nan_to_num((numbers[:, varied] - self.centre[varied]) / self.scale[varied])


class _Fitted(NamedTuple):
    """What a metric is predicted by: the process on each set of counts, and the way to the metric's unit."""

    process: GaussianProcess
    scale: MonotoneMap

    def to_json(self) -> dict[str, Any]:
        """All but the arrays."""
        process = self.process
        terms = [term.kernel._asdict() for term in process.terms]
        known = {"shares": process.shares, "noise": process.noise}
        return {"terms": terms, **known, "scale": self.scale.to_json()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays, by name."""
        features = {f"features_{i}": found for i, found in enumerate(self.process.features) if found is not None}
        return features | {f"weights_{i}": term.weights for i, term in enumerate(self.process.terms)}

    @classmethod
    def of(cls, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> _Fitted:
        """What ``to_json`` and ``arrays`` made, among other arrays."""
        shares = tuple(content["shares"])
        features = tuple(arrays[f"features_{i}"] if share else None for i, share in enumerate(shares))
        terms = tuple(Term(Kernel(**term), arrays[f"weights_{i}"]) for i, term in enumerate(content["terms"]))
        process = GaussianProcess(features, terms, shares, content["noise"])
        return cls(process, MonotoneMap.from_json(content["scale"]))
