"""What training minimises: the cross-entropy of digits, and optionally a ranking loss through the first digit.

The ranking loss (``TrainingConfig.ranking``) reads the first digit's softmax as an expected quantile,
``sum p_d (d + .5) / 10``, and asks of every two graphs of the batch that the better one's lies above the other's by
their true distance, at most by ``MARGIN``: ``max(0, min(MARGIN, y_i - y_j) - (e_i - e_j))``. A pairwise hinge as in
FLAN (arXiv 2403.02484), but one that never asks for more than the truth. It shapes the same logits that decoding reads
and adds no weights. Only the first digit takes part, so two graphs within a tenth are told apart by spreading its
probability over two digits: that pulls against the cross-entropy. With many labels the weight should stay small; with
few, the order of networks is worth more than their digits (``nasrlm.bench.settings``).
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

#: Largest distance of two expected quantiles that the ranking loss asks for.
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
        visible = visibility(np.asarray((tokens >= 0).any(-1)), config.joint, rng)
        weights = np.where(tokens >= 0, self.weights, 0.0).astype(np.float32)
        total = float(weights.sum()) or 1.0
        mine = own = np.arange(len(rows))[self.accelerator.process_index :: count]
        if not len(own):  # fewer graphs than processes: each has to take part in averaging gradients all the same
            own, weights = np.zeros(1, dtype=np.int64), np.zeros_like(weights)
        target = torch.from_numpy(tokens[own]).to(device)
        graphs = self.data.draw(rows, rng)
        batch = collate([graphs[i] for i in own], device)
        with autocast(config.precision, device):
            logits = network(batch, target, torch.from_numpy(visible[own]).to(device), self.names)
        logits = logits.float().masked_fill(self.forbidden, -torch.inf)
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
        device = logits.device
        probability = logits[:, :, 0, list(DIGITS)].softmax(-1)
        expected = (probability * (torch.arange(10, device=device) + 0.5) / 10).sum(-1)[: len(mine)]
        places = torch.from_numpy(mine).to(device)
        whole = torch.zeros(len(rows), expected.shape[1], device=device).index_copy(0, places, expected)
        if self.accelerator.num_processes > 1:
            whole = whole + (self._summed(whole) - whole.detach())
        return pairwise(
            whole,
            torch.from_numpy(self.data.labels[rows]).to(device, torch.float32),
            torch.tensor(self.data.weights, device=device),
        )


def pairwise(expected: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mean hinge over all pairs of graphs, metric by metric.

    Args:
        expected: ``(b, m)``, predicted.
        truth: ``(b, m)``, same unit; NaN where unknown.
        weights: ``(m,)``, of the metrics.
    """
    distance = truth[:, None] - truth[None]
    share = (distance > 0) * weights  # a comparison with NaN is false
    hinge = functional.relu(distance.nan_to_num().clamp(max=MARGIN) - (expected[:, None] - expected[None]))
    result: Tensor = (share * hinge).sum() / share.sum().clamp(min=1e-9)
    return result
