"""What training minimises: the cross-entropy of digits, and optionally a ranking loss through the first digit.

The ranking loss (``TrainingConfig.ranking``) makes one number ``e`` of the first digit's logits and asks of every two
graphs of the batch that the better one's lies above the other's, ``max(0, margin - (e_i - e_j))``: a pairwise hinge as
in FLAN (arXiv 2403.02484). It shapes the same logits that decoding reads and adds no weights. Two numbers can be made
(``TrainingConfig.ranking_by``):

- ``quantile``: the expected quantile ``sum p_d (d + .5) / 10`` of the softmax. The margin is the true distance of the
  two graphs, at most ``MARGIN``: it never asks for more than the truth. Two graphs within a tenth are told apart by
  spreading probability over two digits, which pulls against the cross-entropy.
- ``slope``: the slope of the ten logits over the digits. It rises with the expected quantile but has no bounds, so the
  margin is ``MARGIN`` for any two: as a perceptron's output it orders finely what the softmax of ten digits crowds
  together at either end.

With few labels the order of networks is worth more than their digits (``nasrlm.bench.settings``).
"""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.errors import UsageError
from surrogates.numbers import DIGITS, FractionFormat
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.inputs import collate
from surrogates.rlm.labelled import LabelledGraphs, visibility
from surrogates.rlm.precision import autocast

#: What the ranking loss asks for between two graphs, at most or always.
MARGIN = 0.1


class Objective:
    """The loss of each step; its batch is split over the processes, what is random depends on seed and step alone.

    Args:
        data: Labelled graphs.
        config: Training settings.
        accelerator: Knows device and processes.

    Raises:
        UsageError: A ranking loss on numbers that do not begin with a digit.
    """

    def __init__(self, data: LabelledGraphs, config: TrainingConfig, accelerator: Accelerator) -> None:
        if config.ranking and not all(isinstance(scale.format, FractionFormat) for scale in data.scales):
            raise UsageError('a ranking loss reads the first digit of a quantile; use RLM(value_scale="quantile")')
        self.data, self.config, self.accelerator = data, config, accelerator
        device = accelerator.device
        self.names = torch.tensor(data.metrics, device=device)
        self.forbidden = torch.from_numpy(~data.grammar()).to(device)
        digit = np.resize(config.digit_weights, data.steps)
        digit[len(config.digit_weights) :] = config.digit_weights[-1]
        self.weights = np.asarray(data.weights)[:, None] * digit

    def __call__(self, network: nn.Module, rows: np.ndarray, step: int) -> tuple[Tensor, Tensor]:
        """The loss of ``step`` on graphs ``rows``.

        Returns:
            The scalar to differentiate, whose gradients averaged over the processes are those of the whole batch, and
            the loss of the whole batch.
        """
        config, device, count = self.config, self.accelerator.device, self.accelerator.num_processes
        rng = np.random.default_rng([config.seed, 2, step])
        noise = rng.standard_normal((len(rows), len(self.data.scales))) * config.smoothing
        tokens = self.data.tokens(rows, noise)
        chosen = some_metrics(np.asarray((tokens >= 0).any(-1)), config.metrics_at_once, rng)
        tokens = np.take_along_axis(tokens, chosen[:, :, None], axis=1)
        visible = visibility(np.asarray((tokens >= 0).any(-1)), config.joint, rng)
        weights = np.where(tokens >= 0, self.weights[chosen], 0.0).astype(np.float32)
        total = float(weights.sum()) or 1.0
        mine = own = np.arange(len(rows))[self.accelerator.process_index :: count]
        if not len(own):  # fewer graphs than processes: each has to take part in averaging gradients all the same
            own, weights = np.zeros(1, dtype=np.int64), np.zeros_like(weights)
        target = torch.from_numpy(tokens[own]).to(device)
        graphs = self.data.draw(rows, rng)
        batch = collate([graphs[i] for i in own], device)
        columns = torch.from_numpy(chosen[own]).to(device)
        with autocast(config.precision, device):
            logits = network(batch, target, torch.from_numpy(visible[own]).to(device), self.names[columns])
        logits = logits.float().masked_fill(self.forbidden[columns], -torch.inf)
        entropy = functional.cross_entropy(logits.flatten(0, 2), target.flatten(), ignore_index=-1, reduction="none")
        digits = (entropy * torch.from_numpy(weights[own]).to(device).flatten()).sum() / total
        if not config.ranking:
            return digits * count, self._summed(digits)
        ranking = config.ranking * self._ranking(logits, rows, mine)
        return (digits + ranking) * count, self._summed(digits) + ranking.detach()

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over processes, without gradients."""
        result: Tensor = self.accelerator.reduce(value.detach().clone(), reduction="sum")
        return result

    def _ranking(self, logits: Tensor, rows: np.ndarray, mine: np.ndarray) -> Tensor:
        """The pairwise loss of the whole batch; differentiable in the own graphs, the others' numbers are constants."""
        device, by_slope = logits.device, self.config.ranking_by == "slope"
        first = logits[: len(mine), :, 0, list(DIGITS)]
        scores = slope(first) if by_slope else expected_quantile(first)
        places = torch.from_numpy(mine).to(device)
        whole = torch.zeros(len(rows), scores.shape[1], device=device).index_copy(0, places, scores)
        if self.accelerator.num_processes > 1:
            whole = whole + (self._summed(whole) - whole.detach())
        return pairwise(
            whole,
            torch.from_numpy(self.data.labels[rows]).to(device, torch.float32),
            torch.tensor(self.data.weights, device=device),
            capped=not by_slope,
        )


def some_metrics(measured: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Columns of up to ``count`` random metrics that are measured, of each of ``b`` examples.

    Args:
        measured: Bool ``(b, m)``.
        count: How many; 0 for all, of which none is drawn.
        rng: Draws.

    Returns:
        Long ``(b, min(count, m))``; where fewer are measured the last columns are of such as are not.
    """
    if not count or count >= measured.shape[1]:
        return np.broadcast_to(np.arange(measured.shape[1]), measured.shape)
    return np.argsort(rng.random(measured.shape) - measured, axis=1)[:, :count]


def expected_quantile(logits: Tensor) -> Tensor:
    """Of the first digit's ten logits ``(..., 10)``, the quantile expected if the others are unknown ``(...)``."""
    middles = (torch.arange(10, device=logits.device) + 0.5) / 10
    return (logits.softmax(-1) * middles).sum(-1)


def slope(logits: Tensor) -> Tensor:
    """Least-squares slope of ten logits ``(..., 10)`` over the digits, from one end to the other: ``(...)``."""
    places = torch.linspace(-1, 1, 10, device=logits.device)
    return (logits * places).sum(-1) / places.square().sum()


def pairwise(scores: Tensor, truth: Tensor, weights: Tensor, *, capped: bool) -> Tensor:
    """Mean hinge over all pairs of graphs, metric by metric.

    Args:
        scores: ``(b, m)``, predicted.
        truth: ``(b, m)``; NaN where unknown.
        weights: ``(m,)``, of the metrics.
        capped: Scores have the unit of ``truth``, and no two need lie farther apart than the truth.
    """
    distance = truth[:, None] - truth[None]
    share = (distance > 0) * weights  # a comparison with NaN is false
    margin = distance.nan_to_num().clamp(max=MARGIN) if capped else MARGIN
    hinge = functional.relu(margin - (scores[:, None] - scores[None]))
    result: Tensor = (share * hinge).sum() / share.sum().clamp(min=1e-9)
    return result
