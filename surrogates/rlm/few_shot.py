"""A few labels on top of a pretrained model: what ``fit`` means where there is a checkpoint to go on from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from search_spaces.errors import UsageError
from search_spaces.networks import Networks, sample_networks
from surrogates.free_targets import count_sets
from surrogates.progress import Progress
from surrogates.rlm.calibration import (
    LEAST_LABELS,
    CalibrationConfig,
    beside_line,
    conformal,
    correlation,
    level_and_slope,
    multiples,
    unlearned,
)
from surrogates.rlm.checkpointing import weights_print
from surrogates.rlm.config import DecodingConfig, ReadingConfig, TrainingConfig
from surrogates.rlm.decoding import Outcomes
from surrogates.rlm.distillation import TeachingConfig, places_of, pseudo_labels
from surrogates.rlm.encoders import Reader
from surrogates.rlm.finetuning import add_metrics, frozen, shrink
from surrogates.rlm.labelled import FitRequest, functions_of, grouped_folds, rows_of
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.pool import Pool
from surrogates.rlm.rlm import RLM
from surrogates.rlm.scales import fit_scales
from surrogates.rlm.starting import StartConfig
from surrogates.rlm.trust import OutOfFold


class FineTunedRLM(RLM):
    """An ``RLM`` whose ``fit`` goes on from a checkpoint, and then forgets the metrics of the checkpoint.

    Its checkpoints are those of an ``RLM``.

    Args:
        start: Where to begin.
        training: How ``fit`` trains.
        decoding: How ``predict`` reads numbers out.
        reading: What of a graph is read, whatever the checkpoint read.
        calibration: How ``fit`` learns how wide intervals must be.
        teaching: Who teaches the model after the labels.
    """

    def __init__(
        self,
        start: StartConfig,
        training: TrainingConfig | None = None,
        decoding: DecodingConfig | None = None,
        *,
        reading: ReadingConfig | None = None,
        calibration: CalibrationConfig | None = None,
        teaching: TeachingConfig | None = None,
    ) -> None:
        super().__init__(None, training, decoding, reading=reading, calibration=calibration)
        self.start = start
        self.teaching = teaching or TeachingConfig()
        self._begun = start
        self._pool: Pool | None = None
        self._out_of_fold: OutOfFold | None = None
        self._checkpoint_reader: Reader | None = None

    def _settle(self, request: FitRequest) -> FitRequest:
        """Weigh the metrics, draw the pool, and find out whom to trust."""
        request = replace(request, weights={**self.start.weights, **request.weights})
        self._pool = self._out_of_fold = self._checkpoint_reader = None
        self._begun = self.start
        graphs, teaching = request.graphs, self.teaching
        if not teaching.pool:
            return request
        teaching.of_the_pool(self.training)  # refuses what cannot be learned so before there are further fits
        if not isinstance(graphs, Networks):
            raise UsageError("TeachingConfig.pool asks for more networks of the space; give Networks, or pool=0")
        fresh = sample_networks(graphs.space, teaching.pool, seed=self.training.seed, known=graphs.architectures)
        if len(fresh):
            texts = self._own_texts(fresh)
            pool = Pool(texts, _once(self._checkpoint()).predict(texts).mean, fresh, count_sets(fresh))
            self._out_of_fold = self._asked(request, pool) if teaching.trust_folds else None
            self._pool = pool
        return request

    def _asked(self, request: FitRequest, pool: Pool) -> OutOfFold | None:
        """What teachers predict of every label without it; functionally identical networks are set aside together.

        Of several ways to begin (``TeachingConfig.shrinks``) it chooses one. None where nothing is left to learn from.
        """
        self._refuse(request.labels)
        graphs, labels = cast(Networks, request.graphs), request.labels  # where there is a pool there are no others
        functions = np.unique(functions_of(graphs, self.reading), return_inverse=True)[1]
        part = grouped_folds(functions, self.teaching.trust_folds, seed=self.training.seed)
        alike = np.unique(self._own_texts(graphs), return_inverse=True)[1]
        alone = np.bincount(functions)[functions] == 1
        values = labels.to_numpy(dtype=float)
        left = [fold for fold in np.unique(part) if np.isfinite(values[part != fold]).any()]
        if not left:
            return None
        processes = pool.processes(graphs, self._checkpoint().predict(graphs).mean, self.teaching)
        singly = self.teaching.leave_one_out
        aside = [processes.without(column, functions if singly else part, refitted=not singly) for column in values.T]
        found = []
        for shrunk in (self.start.shrink, *self.teaching.shrinks):
            begun = replace(self.start, shrink=shrunk)
            views = np.concatenate([self._without(request, part, left, begun), np.stack(aside, axis=1)[None]])
            found.append((begun, OutOfFold(labels, part, views, alike, alone, self.teaching.stacked)))
        self._begun, asked = max(found, key=lambda one: float(one[1].taus[0].mean()))
        return asked

    def _without(self, request: FitRequest, part: np.ndarray, left: Sequence[int], begun: StartConfig) -> np.ndarray:
        """What models that begin so predict of each part in ``left`` without it, ``(models, n, m)``."""
        graphs, labels, trainings = request.graphs, request.labels, self._trainings()
        predicted = np.full((len(trainings), *labels.shape), np.nan)
        for fold in left:
            held, rest = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
            known = labels.iloc[rest].dropna(axis=1, how="all").reset_index(drop=True)
            at = labels.columns.get_indexer(known.columns)
            for index, training in enumerate(trainings):
                short = replace(training, epochs=max(1, round(self.teaching.trust_epochs * training.epochs)))
                model = self._untaught(short, begun)._refitted(request, rows_of(graphs, rest), known)
                predicted[index][np.ix_(held, at)] = model.predict(rows_of(graphs, held)).mean
        return predicted

    def _told(self, names: Sequence[str]) -> dict[str, float]:
        """``OutOfFold.told`` of each metric that has labels enough; of none where no label was set aside.

        Fits to a part of the labels (``CalibrationConfig.folds``) go by this, too: one number, which knows the rest.
        """
        if self._out_of_fold is None:
            return {}
        found = {name: self._out_of_fold.told(name, self._scale(name)) for name in names}
        return {name: told for name, told in found.items() if told is not None}

    def _calibrate_aside(
        self, request: FitRequest, pool: Pool, taught: pd.DataFrame, told: Mapping[str, float]
    ) -> None:
        """Take from labels that were set aside how far apart values lie, and how wide intervals must be.

        Validation labels, where they are enough, or further fits (``CalibrationConfig.folds``) tell the latter better.

        Args:
            request: The labels.
            pool: The networks that were learned beside theirs.
            taught: Their pseudo-labels.
            told: ``_told``.
        """
        asked, names, level = self._out_of_fold, request.metrics, self.calibration.level
        if asked is None:
            return
        folds, ends = self.calibration.folds, (0.5, *self.calibration.ends)
        own = self._outcomes(self._own_texts(request.graphs), names)
        fresh = self._outcomes(pool.texts, names) if not folds else {}
        scales, spreads = dict(zip(self.metrics, self.scales, strict=True)), {}
        for name in names:
            labels, scale = request.labels[name].to_numpy(dtype=float), scales[name]
            slope = share = 1.0
            if name in told:
                known, said = np.isfinite(labels), own[name].quantiles((0.5,))[:, 0, 0]
                truth = scale.forward(labels[known])
                least = min(told[name], correlation(truth, said[known]))
                share = unlearned(truth, said[known], least)
                if scale.kind != "raw":
                    shift, slope = level_and_slope(truth, said[known], least)
                    scales[name] = scale.moved(shift, slope)
            if not folds:
                ours, others = (outcomes[name].quantiles(ends)[:, 0] for outcomes in (own, fresh))
                echo = beside_line(others[:, 0], scale.forward(taught[name].to_numpy())) / slope
                spreads[name] = asked.spread(name, scales[name], ours, others, echo, unlearned=share, level=level)
        self.scales = tuple(scales.values())
        if request.validation is not None:
            graphs, held = request.validation
            needed = multiples(self, graphs, held.reindex(columns=list(names)), self.calibration)
            enough = {name: found for name, found in needed.items() if len(found) >= LEAST_LABELS}
            spreads |= {name: conformal(found, level) for name, found in enough.items()}
        self._spread(spreads)

    def _outcomes(self, texts: Sequence[str], names: Sequence[str]) -> dict[str, Outcomes]:
        """The distribution of each metric, ``(k, 1, v)``, as it is written: on no scale that was moved, not spread."""
        readout = _once(self).readout()
        with Progress("calibrating", len(texts), show=False) as bar:
            return readout.read(texts, self.encode, names, None, readout.generator(), bar)

    def _trainings(self) -> list[TrainingConfig]:
        """How each model that teaches was trained; the first is this one."""
        return [self.training, *([replace(self.training, ranking=0.0)] if self.teaching.calm else [])]

    def _untaught(self, training: TrainingConfig, begun: StartConfig) -> Self:
        """A model like this one that learns from labels alone, by ``training``, and begins as ``begun`` says."""
        other = copy.copy(self)
        other.training, other._begun, other._pool = training, begun, None
        return other

    def _checkpoint(self) -> RLM:
        """The checkpoint, which reads networks and numbers as this model does, and remembers what a fit has read."""
        found = RLM.from_pretrained(self.start.checkpoint)
        found.decoding, found.reading = self.decoding, self.reading
        self._checkpoint_reader = found._reader = self._checkpoint_reader or found.reader
        return found

    def _fit_once(self, request: FitRequest) -> None:
        """Every fit begins at the checkpoint anew.

        Raises:
            CheckpointError: There is no such checkpoint.
            UnknownNameError: It has no metric ``StartConfig.like``; or as ``RLM.finetune``.
            UsageError: As ``RLM.finetune``.
        """
        found, pool, self._pool = self._checkpoint(), self._pool, None
        # What is made of a checkpoint may differ by rounding, so a killed fit is known by what it is made of, and how.
        began = f"{weights_print(found.network)} {self._begun}" if request.checkpoint is not None else ""
        asked = pool is not None or self.start.asks
        read = found.predict(request.graphs).mean if asked else np.zeros((len(request.graphs), 0))
        self._adopt(found, read, request.labels)
        with frozen(self.network, self.start.freeze):
            shrink(self.network, self._begun.shrink)
        self._finetune(request, freeze=self.start.freeze, start=began)
        told = self._told(request.metrics)
        taught = self._learn_guessed(pool, request, read, told) if pool is not None else pd.DataFrame()
        self.keep(request.metrics)
        if pool is not None:
            self._calibrate_aside(request, pool, taught, told)

    def _adopt(self, found: RLM, read: np.ndarray, labels: pd.DataFrame) -> None:
        """Take over all of ``found`` but how it was trained, with the start of every metric of ``labels``."""
        names = [*labels.columns]
        new = [name for name in names if name not in found.metrics]
        shares = self.start.shares(found.metrics, read, labels)
        add_metrics(found.network, len(new), seed=self.training.seed)
        scales = fit_scales(labels[new], self.value_scale, digits=found.digits) if new else {}
        self.model = replace(found.model, dropout=self.start.dropout)
        self.digits, self.vocabulary = found.digits, found.vocabulary
        self.metrics = (*found.metrics, *scales)
        self.scales = (*found.scales, *scales.values())
        self.temperatures = (*found.temperatures, *[1.0] * len(new))
        self.spreads = (*found.spreads, *[1.0] * len(new))
        self._reader, self._network, self._known = found.reader, found.network, found._known
        if shares is not None:
            rows = found.network.metric_embedding.weight
            with torch.no_grad():
                starts = torch.from_numpy(shares).to(rows) @ rows[: shares.shape[1]]
                rows[[self.metrics.index(name) for name in names]] = starts
        _set_dropout(found.network, self.start.dropout)

    def _learn_guessed(
        self, pool: Pool, request: FitRequest, read: np.ndarray, told: Mapping[str, float]
    ) -> pd.DataFrame:
        """Train on pseudo-labels among the labels, which say how far values go. A killed fit does this again.

        Args:
            pool: Whom the teachers are asked about.
            request: The labels.
            read: What the checkpoint predicts of their networks, ``(n, m)``.
            told: ``_told``. Metrics that are not among these have too few labels to say how values are distributed, and
                get a new scale.

        Returns:
            The pseudo-labels; none where nobody teaches but the model itself.
        """
        graphs, metrics = cast(Networks, request.graphs), request.metrics
        processes = pool.processes(graphs, read, self.teaching)
        fresh = np.full((len(pool.texts), len(metrics)), np.nan)
        values = np.vstack([request.labels.to_numpy(dtype=float), fresh])
        if self._out_of_fold is not None:
            trust = self._out_of_fold.shares[list(metrics)].to_numpy()
        else:
            found, models = np.array([processes.trust(column) for column in values.T]), len(self._trainings())
            trust = np.array([*[(1 - found) / models] * models, found])
            if not trust[1:].any():
                return pd.DataFrame()
        guessed = np.stack([processes.guess(column)[len(graphs) :] for column in values.T], axis=1)
        others = [
            self._untaught(how, self._begun)._refitted(request, graphs, request.labels) for how in self._trainings()[1:]
        ]
        known = self._own_texts(graphs)
        own, predicted = (
            [_once(model).predict(texts, metrics).frame() for model in (self, *others)] for texts in (known, pool.texts)
        )
        named = pseudo_labels(predicted, guessed, trust, request.labels, places_of(own, trust, request.labels, told))
        texts, labels = [*known, *pool.texts], pd.concat([request.labels, named], ignore_index=True)
        among = replace(request, graphs=texts, labels=labels, checkpoint=None)
        wanted, history, unfinished = self.training, self.history, self._unfinished
        _set_dropout(self.network, 0.0)
        try:
            self._finetune(among, self.teaching.of_the_pool(wanted), kept=told, freeze=self.start.freeze)
        finally:
            self.training, self.history, self._unfinished = wanted, history, unfinished
            _set_dropout(self.network, self.start.dropout)
        validation = request.validation[0] if request.validation is not None else None
        self.learn_distance(graphs, validation=validation)  # what it knows was measured
        return named

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        """An ``FineTunedRLM`` that was fitted is an ``RLM``: read it as one.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"read {path_or_name} with RLM.from_pretrained: a fine-tuned model is an RLM")


def _once(model: RLM) -> RLM:
    """``model`` as it reads texts, which have one order."""
    other = copy.copy(model)
    other.decoding = replace(model.decoding, readings=1)
    return other


def _set_dropout(network: RLMNetwork, rate: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
