"""The regression language model as a ``Surrogate``: text in, digits out."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import pandas as pd
import torch

from search_spaces.errors import UsageError
from surrogates.base import Familiarity, Prediction, Surrogate
from surrogates.progress import Progress
from surrogates.rlm.calibration import CalibrationConfig, learn_spreads
from surrogates.rlm.checkpointing import discard_state, weights_print
from surrogates.rlm.config import DecodingConfig, ModelConfig, ReadingConfig, TrainingConfig
from surrogates.rlm.decoding import Outcomes
from surrogates.rlm.encoders import Reader, reader_for
from surrogates.rlm.evaluation import calibrate
from surrogates.rlm.familiarity import TrainingDistribution, pooled
from surrogates.rlm.finetuning import add_metrics, anchored, frozen, keep_metrics
from surrogates.rlm.inputs import EncodedText, as_text
from surrogates.rlm.labelled import FitRequest, Graphs, LabelledGraphs, texts_in_orders
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.precision import is_main_process
from surrogates.rlm.prediction import Readout
from surrogates.rlm.pretrained import Pretrained, checkpoint_folder
from surrogates.rlm.runtimes import RuntimeCache
from surrogates.rlm.scales import Scale, fit_scales
from surrogates.rlm.training import train


class RLM(Surrogate):
    """Reads linearised ONNX graphs and writes named metrics digit by digit.

    Args:
        model: Shape of the network.
        training: How ``fit`` trains; afterwards how it did.
        decoding: How ``predict`` reads numbers out.
        reading: What of a graph is read.
        calibration: How ``fit`` learns how wide intervals must be.
        value_scale: ``quantile`` or ``raw``, for all metrics or by name (``quantile`` where not named); see
            ``surrogates.rlm.scales``.
        digits: Digits written per number (of the mantissa, for raw values).
        vocabulary: Size of the tokenizer that ``fit`` learns.
    """

    def __init__(
        self,
        model: ModelConfig | None = None,
        training: TrainingConfig | None = None,
        decoding: DecodingConfig | None = None,
        *,
        reading: ReadingConfig | None = None,
        calibration: CalibrationConfig | None = None,
        value_scale: str | Mapping[str, str] = "quantile",
        digits: int = 3,
        vocabulary: int = 1024,
    ) -> None:
        self.model = model or ModelConfig()
        self.training = training or TrainingConfig()
        self.decoding = decoding or DecodingConfig()
        self.reading = reading or ReadingConfig()
        self.calibration = calibration or CalibrationConfig()
        self.value_scale = value_scale if isinstance(value_scale, str) else dict(value_scale)
        self.digits = digits
        self.vocabulary = vocabulary
        self.metrics: tuple[str, ...] = ()
        self.scales: tuple[Scale, ...] = ()
        self.temperatures: tuple[float, ...] = ()
        self.spreads: tuple[float, ...] = ()
        self.history: dict[str, Any] = {}
        self._reader: Reader | None = None
        self._network: RLMNetwork | None = None
        self._known: TrainingDistribution | None = None
        self._runtimes = RuntimeCache()
        self._unfinished: Path | None = None

    @property
    def reader(self) -> Reader:
        """What makes inputs of texts; made by ``fit`` or loaded."""
        if self._reader is None:
            raise UsageError("this RLM has no tokenizer yet; call fit or from_pretrained first")
        return self._reader

    @property
    def tokenizer(self) -> Any:
        """The reader's tokenizer: learned, or that of the pretrained encoder; its length is its vocabulary."""
        return self.reader.tokenizer

    @property
    def network(self) -> RLMNetwork:
        """The torch module; made by ``fit`` or loaded."""
        if self._network is None:
            raise UsageError("this RLM has no weights yet; call fit or from_pretrained first")
        return self._network

    @property
    def device(self) -> torch.device:
        """Where the network is, and where ``predict`` computes."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to ``device``; returns itself."""
        self.network.to(device)
        return self

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
        """Train from scratch; see ``Surrogate.fit``.

        Args:
            graphs: ``n`` models, or texts already linearised.
            labels: ``n`` rows, one column per metric; NaN means not measured.
            validation: Graphs and labels of the same metrics, not trained on: the weights that order them best (mean
                Kendall tau) are kept, ``TrainingConfig.patience`` may stop early, and digits are calibrated on them.
            metric_weights: Weight of a metric's loss; 1 where not named.
            checkpoint: Folder that keeps the state of an unfinished fit; the same call resumes it, and
                ``save_pretrained`` removes it once the result is safe. (The further fits of
                ``CalibrationConfig.folds`` and ``TeachingConfig.trust_folds``, which come first, begin anew.)
            progress: Show a progress bar.

        Raises:
            UsageError: Numbers of graphs and labels differ, or a metric has no label, or there are both ``validation``
                and ``CalibrationConfig.folds``.
            UnknownNameError: A weight or a validation label of a metric that has no column in ``labels``.
            TrainingError: The loss is not finite.
        """
        request = self._settle(FitRequest(graphs, labels, validation, metric_weights or {}, checkpoint, progress))
        spreads = self._cross_fitted(request)
        self._fit_once(request)
        return self._spread(spreads)

    def _settle(self, request: FitRequest) -> FitRequest:
        """What comes before all else, once for all fits to the request or parts of it; here there is nothing."""
        return request

    def _fit_once(self, request: FitRequest) -> None:
        """Fit by the settings there are, with no further fits before it."""
        texts = self._texts(request.graphs)
        self.initialise([*chain(*texts)], request.labels)
        self._learn(texts, request, start="")

    def initialise(self, texts: Sequence[str], labels: pd.DataFrame) -> Self:
        """An untrained model: tokenizer learned from ``texts``, scales from ``labels``, random weights.

        ``fit`` begins so. By itself it is for those who train the network on their own (``train_on_stream``).

        Raises:
            UsageError: A metric has no label.
        """
        scales = fit_scales(labels, self.value_scale, digits=self.digits)
        self._known = None  # a new reader and new weights have seen nothing
        self._reader = reader_for(self.model).learn(texts, self.model, vocabulary=self.vocabulary)
        self.metrics, self.scales = tuple(scales), tuple(scales.values())
        self.temperatures = self.spreads = (1.0,) * len(scales)
        steps = max(len(scale.format.steps) for scale in self.scales)
        torch.manual_seed(self.training.seed)
        self._network = RLMNetwork(self.model, self._reader.encoder(self.model), len(scales), steps)
        return self

    def finetune(
        self,
        graphs: Graphs,
        labels: pd.DataFrame,
        *,
        training: TrainingConfig | None = None,
        validation: tuple[Graphs, pd.DataFrame] | None = None,
        metric_weights: Mapping[str, float] | None = None,
        refit_scales: bool = True,
        freeze: Sequence[str] = (),
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Go on from the weights there are, on new labels: of other networks, another space, further metrics.

        The tokenizer stays. Metrics already known go on from their embedding, new ones get a new row; metrics without a
        column in ``labels`` can still be predicted, but are not kept up.

        Args:
            graphs: See ``fit``.
            labels: See ``fit``.
            training: How to train, from here on in place of ``self.training``; None goes by that.
            validation: See ``fit``.
            metric_weights: See ``fit``.
            refit_scales: Fit the scales of known metrics to the new labels; False keeps them, as they were learned,
                where both sets of labels follow one distribution. Scales of new metrics are always fitted.
            freeze: Modules whose weights stay as they are, e.g. ``("encoder",)``.
            checkpoint: See ``fit``; resume by the same call on the same pretrained model.
            progress: See ``fit``.

        Raises:
            UsageError: As ``fit``, or there are no weights yet, or nothing is left to train, or ``calibration`` asks
                for folds: weights that have seen labels cannot be asked what they would be without them.
            UnknownNameError: As ``fit``, or a module that the network has not.
            TrainingError: The loss is not finite.
        """
        if self.calibration.folds:
            raise UsageError(
                f"folds is {self.calibration.folds}, but finetune goes on from weights that may have seen the labels; "
                "give validation graphs, or fit a FineTunedRLM"
            )
        request = FitRequest(graphs, labels, validation, metric_weights or {}, checkpoint, progress)
        start = weights_print(self.network) if checkpoint is not None else ""
        kept = () if refit_scales else self.metrics
        return self._finetune(request, training, kept=kept, freeze=freeze, start=start)

    def _finetune(
        self,
        request: FitRequest,
        training: TrainingConfig | None = None,
        *,
        kept: Collection[str] = (),
        freeze: Sequence[str] = (),
        start: str = "",
    ) -> Self:
        """``finetune``; metrics in ``kept`` keep their scales, as they were learned.

        ``start`` names what it goes on from, for the state of another start is not resumed.
        """
        network = self.network
        with frozen(network, freeze):
            pass  # refuses unknown modules before anything is changed
        fitted = fit_scales(request.labels, self.value_scale, digits=self.digits)
        known = dict(zip(self.metrics, self.scales, strict=True))
        before = {name: known[name].learned for name in request.metrics if name in kept and name in known}
        self.scales = tuple({**known, **fitted, **before}.values())
        new = tuple(name for name in request.metrics if name not in known)
        self.training = training or self.training
        add_metrics(network, len(new), seed=self.training.seed)
        self.metrics, self.temperatures = self.metrics + new, self.temperatures + (1.0,) * len(new)
        self.spreads = self.spreads + (1.0,) * len(new)
        texts = self._texts(request.graphs)
        with frozen(network, freeze):
            return self._learn(texts, request, start=start)

    def keep(self, metrics: Sequence[str]) -> Self:
        """Forget all metrics but ``metrics``: those that were only there to learn from need not be shipped.

        Raises:
            UnknownNameError: A metric it does not know.
        """
        indices = [self.metrics.index(name) for name in self.select(metrics)]
        keep_metrics(self.network, indices)
        self.metrics, self.scales = tuple(metrics), tuple(self.scales[i] for i in indices)
        self.temperatures = tuple(self.temperatures[i] for i in indices)
        self.spreads = tuple(self.spreads[i] for i in indices)
        return self

    def _cross_fitted(self, request: FitRequest) -> dict[str, float]:
        """Spreads by ``CalibrationConfig``: fits like this one, each without a part of the labels."""
        if not self.calibration.folds:
            return {}
        if request.validation is not None:
            raise UsageError(
                "validation graphs calibrate by themselves; give them, or CalibrationConfig.folds, not both"
            )
        self._refuse(request.labels)
        refit = partial(self._refitted, request)
        seed, reading = self.training.seed, self.reading
        return learn_spreads(refit, request.graphs, request.labels, self.calibration, seed=seed, reading=reading)

    def _refuse(self, labels: pd.DataFrame) -> None:
        """Refuse what cannot be learned before there are further fits to parts of it."""
        fit_scales(labels, self.value_scale, digits=self.digits)

    def _refitted(self, request: FitRequest, graphs: Graphs, labels: pd.DataFrame) -> Self:
        """A model like this one, fitted to some of the labels from the beginning; it is not calibrated."""
        other = copy.copy(self)
        other._runtimes = RuntimeCache()
        other._fit_once(request.part(graphs, labels))
        return other

    def _spread(self, spreads: Mapping[str, float]) -> Self:
        """Take over learned spreads."""
        known = dict(zip(self.metrics, self.spreads, strict=True))
        self.spreads = tuple(spreads.get(name, before) for name, before in known.items())
        return self

    def _learn(self, texts: Sequence[Sequence[str]], request: FitRequest, *, start: str) -> Self:
        names = request.metrics
        weights = tuple(float(request.weights.get(name, 1.0)) for name in names)
        data = self._labelled(texts[0], request.labels, names, weights)
        data = replace(data, orders=[self.encode(order) for order in texts[1:]])
        judge = self._labelled(*request.validation, names, weights) if request.validation is not None else None
        folder = Path(request.checkpoint) if request.checkpoint is not None else None
        with anchored(self.network, self.training.anchor / (self.training.anchor + len(data.graphs))):
            self.history = train(
                self.network,
                data,
                self.training,
                validation=judge,
                checkpoint=folder,
                start=start,
                progress=request.progress,
            )
        found = calibrate(self.network, judge) if judge is not None else (1.0,) * len(names)
        warmth = {**dict(zip(self.metrics, self.temperatures, strict=True)), **dict(zip(names, found, strict=True))}
        self.temperatures = tuple(warmth.values())
        self._spread(dict.fromkeys(names, 1.0))  # that of other weights
        held = judge.graphs if judge is not None else None
        self._known = TrainingDistribution.of(self.network, texts[0], data.graphs, held, before=self._known)
        self._unfinished = folder
        return self

    def _labelled(
        self, graphs: Graphs, labels: pd.DataFrame, names: Sequence[str], weights: tuple[float, ...]
    ) -> LabelledGraphs:
        scales = [self._scale(name) for name in names]
        values = labels.reindex(columns=list(names)).to_numpy(dtype=float)
        scaled = np.stack([scale.forward(column) for scale, column in zip(scales, values.T, strict=True)], axis=1)
        indices = tuple(self.metrics.index(name) for name in names)
        return LabelledGraphs(self.encode(graphs), scaled, scales, indices, weights)

    def _texts(self, graphs: Graphs) -> list[list[str]]:
        """Texts to learn from, as many orders as wanted."""
        training = self.training
        return texts_in_orders(graphs, training.orders, self.reading, seed=training.seed)

    def _own_texts(self, graphs: Graphs) -> list[str]:
        return [as_text(graph, self.reading) for graph in graphs]

    def encode(self, graphs: Sequence[onnx.ModelProto | str]) -> list[EncodedText]:
        """Inputs of the encoder; what ``predict`` does first, for those who predict the same graphs again."""
        return self.reader.encode(self._own_texts(graphs), context=self.model.context)

    def predict(
        self,
        graphs: Sequence[onnx.ModelProto | str],
        metrics: Sequence[str] | None = None,
        given: pd.DataFrame | None = None,
        *,
        progress: bool = False,
    ) -> Prediction:
        """Predict metrics with uncertainty; see ``Surrogate.predict``.

        ``mean`` is what ``DecodingConfig.aggregate`` makes of the distribution on the metric's scale, brought back to
        its unit: the value at the expected quantile, or the median on a raw scale and on one that was moved.
        """
        names = self.select(metrics)
        self._check_given(given, len(graphs))
        return self.readout().predict(graphs, self.encode, names, given, progress=progress)

    def predict_encoded(
        self,
        graphs: Sequence[EncodedText],
        metrics: Sequence[str],
        given: pd.DataFrame | None = None,
        *,
        progress: bool = False,
    ) -> dict[str, Outcomes]:
        """The distribution of each metric on its scale, ``(n, 1, k)``, for encoded graphs; spreads are not applied."""
        self._check_given(given, len(graphs))
        readout = self.readout()
        with Progress("predicting", len(graphs), show=progress) as bar:
            return readout.outcomes(graphs, metrics, given, readout.generator(), bar)

    def readout(self) -> Readout:
        """What ``predict`` reads numbers out with, by the present weights and settings."""
        network = self.network.eval()
        runtime = self._runtimes.get(network, self.decoding)
        return Readout(
            network,
            runtime,
            self.reading,
            self.decoding,
            self.metrics,
            self.scales,
            self.temperatures,
            self.spreads,
        )

    def _check_given(self, given: pd.DataFrame | None, rows: int) -> None:
        if given is None:
            return
        self.select([str(column) for column in given.columns])
        if len(given) != rows:
            raise UsageError(f"got {rows} graphs and {len(given)} rows of given values; each graph needs a row")

    def learn_distance(self, graphs: Graphs, *, validation: Graphs | None = None) -> Self:
        """Learn where the training graphs lie, for ``distance`` and ``familiarity``; the weights stay as they are.

        ``fit`` and ``finetune`` do so in the end; call it for a checkpoint that was saved without, and save it again.

        Args:
            graphs: What it was trained on, models or texts.
            validation: Further graphs of the same kind: how far they lie is the scale of distances.
        """
        texts = self._own_texts(graphs)
        held = self.encode(validation) if validation is not None else None
        self._known = TrainingDistribution.of(self.network, texts, self.encode(texts), held, before=self._known)
        return self

    def distance(self, graphs: Graphs) -> np.ndarray:
        """How far each graph lies from the training graphs, ``(n,)``: an out-of-distribution score.

        The distance is a share of that of the farthest graph the model knows: above 1 it has seen nothing like it.

        Raises:
            UsageError: The checkpoint does not hold what this needs.
        """
        if self._known is None:
            raise UsageError(
                "this RLM does not know where its training graphs lie (its checkpoint was saved without); call "
                "learn_distance with the training graphs and save it again"
            )
        return self._known.distance(pooled(self.network, self.encode(graphs)))

    def familiarity(self, graphs: Graphs) -> tuple[Familiarity, ...] | None:
        """See ``Surrogate.familiarity``; None for a checkpoint of an earlier version, see ``learn_distance``."""
        if self._known is None:
            return None
        texts = self._own_texts(graphs)
        return self._known.familiarity(pooled(self.network, self.encode(texts)), texts)

    def _scale(self, metric: str) -> Scale:
        return self.scales[self.metrics.index(metric)]

    def save_pretrained(self, path: str | Path, *, store_encoder: bool = True) -> None:
        """Write config, weights (safetensors) and tokenizer into a folder; the state of the fit is removed then.

        Args:
            path: The folder; made if need be.
            store_encoder: False leaves a frozen pretrained encoder out and refers to where it came from.

        Raises:
            UsageError: ``store_encoder`` is False but the encoder was trained here.
        """
        if not is_main_process():
            return
        Pretrained(
            self.model,
            self.reading,
            self.training,
            self.decoding,
            self.value_scale,
            self.digits,
            self.metrics,
            self.scales,
            self.temperatures,
            self.spreads,
            self.reader,
            self.network,
            self._known,
        ).save(Path(path), store_encoder=store_encoder)
        discard_state(self._unfinished)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        """Read a folder that ``save_pretrained`` wrote, or a shipped checkpoint by name.

        Raises:
            CheckpointError: No such folder or name, a missing file, or another kind or format version.
        """
        found = Pretrained.load(checkpoint_folder(path_or_name))
        rlm = cls(
            found.model,
            found.training,
            found.decoding,
            reading=found.reading,
            value_scale=found.value_scale,
            digits=found.digits,
        )
        rlm.metrics, rlm.scales = found.metrics, found.scales
        rlm.temperatures, rlm.spreads = found.temperatures, found.spreads
        rlm._reader, rlm._network, rlm._known = found.reader, found.network, found.known
        return rlm
