"""Gradient-boosted trees on graph features: the cheap surrogate, and a baseline for the expensive ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import onnx
import pandas as pd

from search_spaces.errors import CheckpointError, TrainingError, UsageError
from search_spaces.networks import Networks
from surrogates.base import Prediction, Surrogate
from surrogates.genomes import one_hot
from surrogates.graph_features import graph_features

if TYPE_CHECKING:
    import xgboost

FORMAT = 1
#: Probabilities of the quantiles, read off a normal distribution of the members' mean and spread.
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
_Z = np.array([-1.6449, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.6449])


@dataclass(frozen=True)
class XGBoostConfig:
    """How the trees are grown.

    Attributes:
        features: ``graph`` reads any ONNX graph (``graph_features``); ``genome`` one-hot encodes the genes and needs
            ``Networks`` of one space, which it never builds: thousands of times faster.
        buckets: Hash buckets of the graph features.
        trees: Trees of each member.
        depth: Depth of a tree.
        learning_rate: Shrinkage.
        members: Models fitted on bootstrap samples; their mean predicts, their spread is the model's uncertainty.
        fence: Targets further than this many interquartile ranges outside the quartiles are clipped while fitting: one
            broken network would otherwise take all the splits.
        seed: Seed of bootstrap and trees.
    """

    features: Literal["graph", "genome"] = "graph"
    buckets: int = 256
    trees: int = 100
    depth: int = 4
    learning_rate: float = 0.1
    members: int = 3
    fence: float = 1.5
    seed: int = 0


class _Memo(dict[tuple[object, ...], np.ndarray]):
    """Features by architecture; a copied surrogate shares it, for features depend on nothing that is learned."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Memo:
        return self


class XGBoostSurrogate(Surrogate):
    """Bagged xgboost regressors, one group per metric.

    Args:
        config: How the trees are grown.
    """

    def __init__(self, config: XGBoostConfig | None = None) -> None:
        self.config = config or XGBoostConfig()
        self._models: dict[str, list[xgboost.Booster]] = {}
        self._scales: dict[str, tuple[float, float, float]] = {}  # centre, scale and residual deviation of a target
        self._width = 0
        self._memo = _Memo()

    def fit(self, graphs: Sequence[onnx.ModelProto], labels: pd.DataFrame) -> Self:
        """Grow the trees anew on ``graphs``; see ``Surrogate.fit``.

        Raises:
            TrainingError: A metric has fewer than 2 labels.
            UsageError: Labels and graphs differ in number, or genome features of bare graphs were asked for.
        """
        if len(graphs) != len(labels):
            raise UsageError(f"{len(graphs)} graphs and {len(labels)} rows of labels; give one row a graph")
        features = self._features(graphs)
        models: dict[str, list[xgboost.Booster]] = {}
        scales = {}
        for position, metric in enumerate(map(str, labels.columns)):
            values = labels.iloc[:, position].to_numpy(dtype=float)
            known = np.isfinite(values)
            if known.sum() < 2:
                raise TrainingError(f"metric {metric!r} has {known.sum()} labels; xgboost needs at least 2")
            models[metric], scales[metric] = self._grow(features[known], values[known], position)
        self._models, self._scales, self._width = models, scales, features.shape[1]
        self.metrics = tuple(models)
        return self

    def predict(
        self,
        graphs: Sequence[onnx.ModelProto],
        metrics: Sequence[str] | None = None,
        given: pd.DataFrame | None = None,
    ) -> Prediction:
        """Mean, deviation and normal quantiles of the members; ``given`` values are not used."""
        import xgboost

        chosen = self.select(metrics)
        mean, std = np.zeros((len(graphs), len(chosen))), np.zeros((len(graphs), len(chosen)))
        if len(graphs) and chosen:
            features = self._features(graphs)
            if features.shape[1] != self._width:
                raise UsageError(f"fitted on {self._width} features, got {features.shape[1]}: another search space?")
            data = xgboost.DMatrix(features, nthread=1)
            for column, metric in enumerate(chosen):
                centre, scale, noise = self._scales[metric]
                votes = np.stack([model.predict(data) for model in self._models[metric]]).astype(float)
                mean[:, column] = centre + scale * votes.mean(axis=0)
                std[:, column] = scale * np.hypot(votes.std(axis=0), noise)
        return Prediction(chosen, mean, std, mean[..., None] + std[..., None] * _Z, LEVELS)

    def save_pretrained(self, path: str | Path) -> None:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for index, metric in enumerate(self.metrics):
            for member, model in enumerate(self._models[metric]):
                model.save_model(folder / f"model_{index}_{member}.ubj")
        content = {
            "surrogate": "xgboost",
            "format": FORMAT,
            "config": asdict(self.config),
            "metrics": list(self.metrics),
            "scales": [self._scales[metric] for metric in self.metrics],
            "width": self._width,
        }
        (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        import xgboost

        from surrogates.registry import checkpoint_path

        folder = checkpoint_path(path_or_name)
        try:
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if (content["surrogate"], content["format"]) != ("xgboost", FORMAT):
                raise CheckpointError(
                    f"{folder} was written by {content['surrogate']!r} in format {content['format']}, "
                    f"expected 'xgboost' in format {FORMAT}"
                )
            surrogate = cls(XGBoostConfig(**content["config"]))
            for index, metric in enumerate(content["metrics"]):
                surrogate._models[metric] = [
                    xgboost.Booster({"nthread": 1}, model_file=folder / f"model_{index}_{member}.ubj")
                    for member in range(surrogate.config.members)
                ]
                centre, scale, noise = map(float, content["scales"][index])
                surrogate._scales[metric] = (centre, scale, noise)
            surrogate._width = int(content["width"])
        except (OSError, ValueError, KeyError, TypeError, IndexError, xgboost.core.XGBoostError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} holds no complete xgboost surrogate: {error}") from error
        surrogate.metrics = tuple(content["metrics"])
        return surrogate

    def _grow(
        self, features: np.ndarray, values: np.ndarray, position: int
    ) -> tuple[list[xgboost.Booster], tuple[float, float, float]]:
        """Members for one metric, and (centre, scale, residual deviation in units of the scale)."""
        import xgboost

        config = self.config
        low, high = np.quantile(values, (0.25, 0.75))
        margin = config.fence * (high - low)
        clipped = np.clip(values, low - margin, high + margin) if margin > 0 else values
        centre, scale = float(clipped.mean()), float(clipped.std()) or 1.0
        target = (clipped - centre) / scale
        rng = np.random.default_rng([config.seed, position])
        parameters = {
            "max_depth": config.depth,
            "eta": config.learning_rate,
            "subsample": 0.8,
            "colsample_bytree": 0.5,
            "tree_method": "exact" if len(values) < 2000 else "hist",
            "nthread": 1,  # the sums of several threads differ in the last digits from run to run
        }
        members, left_out = [], []
        for member in range(config.members):
            rows = rng.integers(len(target), size=len(target)) if config.members > 1 else np.arange(len(target))
            seed = int(rng.integers(2**31))
            data = xgboost.DMatrix(features[rows], target[rows], nthread=1)
            members.append(xgboost.train({**parameters, "seed": seed}, data, num_boost_round=config.trees))
            if len(others := np.setdiff1d(np.arange(len(target)), rows)):
                predicted = members[member].predict(xgboost.DMatrix(features[others], nthread=1))
                left_out.append(np.abs(target[others] - predicted))
        # Median absolute error on rows a member did not see, as a normal deviation: what the spread does not show.
        noise = float(1.4826 * np.median(np.concatenate(left_out))) if left_out else 0.0
        return members, (centre, scale, noise)

    def _features(self, graphs: Sequence[onnx.ModelProto]) -> np.ndarray:
        if self.config.features == "genome":
            return one_hot(graphs, instead="use XGBoostConfig(features='graph')")
        networks = graphs if isinstance(graphs, Networks) else None
        if networks is None:
            rows = [graph_features(model, self.config.buckets) for model in graphs]
        else:
            options = repr(sorted(vars(networks.space).items()))  # the same genes at another input size are another net
            rows = []
            for index, arch in enumerate(networks.architectures):
                key = (options, arch, self.config.buckets)
                if key not in self._memo:
                    self._memo[key] = graph_features(networks[index], self.config.buckets)
                rows.append(self._memo[key])
        return np.stack(rows)
