"""A few labels on top of a pretrained model: what ``fit`` means where there is a checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import scipy.stats
import torch
from torch import nn

from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.networks import Networks
from surrogates.rlm.calibration import CalibrationConfig
from surrogates.rlm.config import DecodingConfig, ReadingConfig, TrainingConfig
from surrogates.rlm.distillation import fresh_networks, pseudo_labels
from surrogates.rlm.finetuning import add_metrics, shrink
from surrogates.rlm.labelled import Graphs, checked_columns
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.rlm import RLM
from surrogates.rlm.scales import fit_scales

#: ``StartConfig.like``: choose by the labels.
BEST = "best"


@dataclass(frozen=True)
class StartConfig:
    """Where training on labels begins.

    Attributes:
        checkpoint: A folder, or the name of a shipped checkpoint.
        pool: Fresh networks of the space to learn pseudo-labels of before the labels
            (``surrogates.rlm.distillation``); 0 for none. Needs ``Networks``, whose space can be asked for more.
        pool_epochs: Passes over them, in batches of 64.
        pool_rate: Learning rate meanwhile.
        dropout: Dropout rate from here on; the pretraining needed none.
        shrink: What the matrices of the checkpoint are multiplied by before the labels. Below 1 it says less and can be
            taught more: the first half of shrink and perturb (Ash & Adams, NeurIPS 2020, arXiv 1910.08475), for as many
            labels as would teach a network from scratch.
        freeze: Modules whose weights stay as they are, e.g. ``("encoder",)``.
        like: Metric of the checkpoint whose embedding new metrics start from; empty for random ones; ``best`` for the
            one whose predictions order the labels best. What goes with accuracy is nearer to it than nothing.
    """

    checkpoint: str
    pool: int = 0
    pool_epochs: int = 8
    pool_rate: float = 1e-3
    dropout: float = 0.1
    shrink: float = 1.0
    freeze: tuple[str, ...] = ()
    like: str = BEST

    def __post_init__(self) -> None:
        if self.pool < 0 or self.pool_epochs < 1:
            raise UsageError(f"pool is {self.pool} and pool_epochs {self.pool_epochs}; the least are 0 and 1")
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0 < self.shrink <= 1:
            raise UsageError(f"shrink is {self.shrink}; it must lie in (0, 1]")


class FineTunedRLM(RLM):
    """An ``RLM`` whose ``fit`` goes on from a checkpoint, and then forgets the metrics of the checkpoint.

    Its checkpoints are those of an ``RLM``.

    Args:
        start: Where to begin.
        training: How ``fit`` trains.
        decoding: How ``predict`` reads numbers out.
        reading: What of a graph is read, whatever the checkpoint read.
        calibration: How ``fit`` learns how wide intervals must be.
    """

    def __init__(
        self,
        start: StartConfig,
        training: TrainingConfig | None = None,
        decoding: DecodingConfig | None = None,
        *,
        reading: ReadingConfig | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> None:
        super().__init__(None, training, decoding, reading=reading, calibration=calibration)
        self.start = start

    def fit(
        self,
        graphs: Graphs,
        labels: pd.DataFrame,
        *,
        validation: tuple[Graphs, pd.DataFrame] | None = None,
        metric_weights: Mapping[str, float] | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """See ``RLM.finetune``; every call begins at the checkpoint anew.

        Raises:
            CheckpointError: There is no such checkpoint.
            UnknownNameError: It has no metric ``StartConfig.like``; or as ``RLM.finetune``.
            UsageError: As ``RLM.finetune``.
        """
        checked_columns(graphs, labels, validation, metric_weights)
        spreads = self._cross_fitted(graphs, labels, validation, metric_weights)
        calibration, self.calibration = self.calibration, CalibrationConfig()  # done: ``finetune`` has none of its own
        try:
            found = RLM.from_pretrained(self.start.checkpoint)
            found.decoding, found.reading = self.decoding, self.reading
            needed = self.start.pool or self.start.like == BEST
            read = found.predict(graphs).mean if needed else np.zeros((len(graphs), 0))
            guessed = self._guess(found, graphs, read, labels)
            self._adopt(found, read, labels)
            if guessed is not None:
                self._learn_guessed(*guessed, progress=progress)
            shrink(self.network, self.start.shrink)
            self.finetune(
                graphs,
                labels,
                validation=validation,
                metric_weights=metric_weights,
                freeze=self.start.freeze,
                checkpoint=checkpoint,
                progress=progress,
            )
        finally:
            self.calibration = calibration
        return self.keep([str(column) for column in labels.columns])._spread(spreads)

    def _adopt(self, found: RLM, read: np.ndarray, labels: pd.DataFrame) -> None:
        """Take over all of ``found`` but how it was trained, with a row for every new metric of ``labels``."""
        new = [column for column in labels.columns if str(column) not in found.metrics]
        likes = self._likes(found.metrics, read, labels[new])
        add_metrics(found.network, len(new), seed=self.training.seed)
        with torch.no_grad():
            rows = found.network.metric_embedding.weight
            for row, like in enumerate(likes, start=len(found.metrics)):
                rows[row] = rows[found.metrics.index(like)]
        scales = fit_scales(labels[new], self.value_scale, digits=found.digits) if new else {}
        self.model = replace(found.model, dropout=self.start.dropout)
        self.digits, self.vocabulary = found.digits, found.vocabulary
        self.metrics = (*found.metrics, *scales)
        self.scales = (*found.scales, *scales.values())
        self.temperatures = (*found.temperatures, *[1.0] * len(new))
        self.spreads = (*found.spreads, *[1.0] * len(new))
        self._reader, self._network, self._known = found.reader, found.network, found._known
        _set_dropout(found.network, self.start.dropout)

    def _guess(
        self, found: RLM, graphs: Graphs, read: np.ndarray, labels: pd.DataFrame
    ) -> tuple[Networks, pd.DataFrame] | None:
        """Fresh networks and their pseudo-labels, if any are wanted and there are any."""
        if not self.start.pool:
            return None
        if not isinstance(graphs, Networks):
            raise UsageError("StartConfig.pool asks for more networks of the space; give Networks, or pool=0")
        fresh = fresh_networks(graphs, self.start.pool, seed=self.training.seed)
        if not len(fresh):
            return None
        seen, likes = found.predict(fresh).mean, self._likes(found.metrics, read, labels)
        prior = seen[:, [found.metrics.index(like) for like in likes]] if likes else None
        guessed = pseudo_labels(read, labels, seen, prior).dropna(axis=1, how="all")
        return None if guessed.empty else (fresh, guessed)

    def _learn_guessed(self, fresh: Networks, guessed: pd.DataFrame, *, progress: bool) -> None:
        """Train on pseudo-labels, which are smooth: no noise, no dropout. A killed fit does this again on resuming."""
        wanted = self.training
        quiet = replace(
            wanted,
            epochs=self.start.pool_epochs,
            batch_size=64,
            learning_rate=self.start.pool_rate,
            smoothing=0.0,
            orders=1,
            ranking=0.0,
            anchor=0.0,
        )
        _set_dropout(self.network, 0.0)
        try:
            self.finetune(fresh, guessed, training=quiet, freeze=self.start.freeze, progress=progress)
        finally:
            self.training = wanted
            _set_dropout(self.network, self.start.dropout)

    def _likes(self, known: tuple[str, ...], read: np.ndarray, labels: pd.DataFrame) -> list[str]:
        """For every column of ``labels`` the metric of the checkpoint to start from; empty if none is wanted."""
        like = self.start.like
        if not like or labels.empty:
            return []
        if like == BEST:
            return [nearest(read, values, known) for values in labels.to_numpy(dtype=float).T]
        if like not in known:
            raise UnknownNameError(f"metric of {self.start.checkpoint}", like, [BEST, *known])
        return [like] * labels.shape[1]

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        """An ``FineTunedRLM`` that was fitted is an ``RLM``: read it as one.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"read {path_or_name} with RLM.from_pretrained: a fine-tuned model is an RLM")


def nearest(read: np.ndarray, values: np.ndarray, metrics: Sequence[str]) -> str:
    """The metric whose predictions ``read`` ``(n, m)`` order ``values`` ``(n,)`` (NaN where unknown) best."""
    known = np.isfinite(values)
    taus = [scipy.stats.kendalltau(column[known], values[known]).statistic for column in read.T]
    return metrics[int(np.argmax(np.nan_to_num(taus, nan=-1.0)))]


def _set_dropout(network: RLMNetwork, rate: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
