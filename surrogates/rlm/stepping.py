"""One optimisation step, whatever is looped over: the rate, the gradient, the weights and their running average."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from search_spaces.errors import TrainingError
from surrogates.rlm.checkpointing import Run, StateFile
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.losses import Objective
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.precision import accelerator as make_accelerator


class Stepper:
    """Takes the steps of a fit, each in two halves: between them the weights are known to have a finite loss.

    Args:
        network: What is trained in place; it is put into training mode, on the device of ``accelerator``.
        config: How.
        total: Steps of the whole fit.
        state: The state of an unfinished fit, which is gone on from.

    Attributes:
        run: All that changes.
        accelerator: The processes that share each batch.

    Raises:
        CheckpointError: ``state`` is that of another fit.
    """

    def __init__(self, network: RLMNetwork, config: TrainingConfig, total: int, state: StateFile) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.accelerator = make_accelerator()
        network.to(self.accelerator.device).train()
        average = copy.deepcopy(network).eval() if config.ema else None
        self.run = Run(network, _optimizer_of(network, config), average)
        state.load(self.run)
        self.accelerator.wait_for_everyone()
        self._config, self._total, self._state = config, total, state
        self._parallel = self.accelerator.prepare(network)
        self._weights = [p for p in network.parameters() if p.requires_grad]
        pairs = zip(self.run.kept.parameters(), network.parameters(), strict=True)
        self._averaged = [kept for kept, weight in pairs if weight.requires_grad]

    def gradient(self, objective: Objective, rows: np.ndarray) -> float:
        """Work out the gradient of the loss of ``rows``; returns the loss.

        Raises:
            TrainingError: The loss or its gradient is not finite.
        """
        config, step, optimizer = self._config, self.run.course.step, self.run.optimizer
        rate = config.learning_rate * _schedule(step, self._total, config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        torch.manual_seed(config.seed * 1_000_003 + step + 7_368_787 * self.accelerator.process_index)
        loss, reported = objective(self._parallel, rows, step)
        value = float(reported)
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights, config.clip))
        if not math.isfinite(value) or not math.isfinite(norm):
            raise _not_finite(value, norm, step, config, self._state)
        return value

    def step(self, value: float) -> None:
        """Move the weights, whose loss is ``value``, along the gradient."""
        course, run = self.run.course, self.run
        run.optimizer.step()
        if run.average is not None:
            decay = min(self._config.ema, (1 + course.step) / (10 + course.step))
            get_ema_multi_avg_fn(decay)(self._averaged, self._weights, None)  # type: ignore[no-untyped-call]
        course.smoothed = value if course.smoothed is None else 0.98 * course.smoothed + 0.02 * value
        course.step += 1


def _optimizer_of(network: RLMNetwork, config: TrainingConfig) -> torch.optim.AdamW:
    """The optimizer of what ``network`` has to train."""
    groups = network.parameter_groups(weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _schedule(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then cosine to zero."""
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def _not_finite(value: float, norm: float, step: int, config: TrainingConfig, state: StateFile) -> TrainingError:
    """The error of a ``step`` whose loss ``value`` or gradient ``norm`` is not finite."""
    what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient of the loss {value:.3g} is {norm}"
    return TrainingError(
        f"{what} at step {step}; lower the learning rate (now {config.learning_rate}) or look for extreme labels"
        + (f"; the last good state is in {state.path}" if state.path else "")
    )
