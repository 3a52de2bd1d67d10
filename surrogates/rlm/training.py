"""The training loop: digit cross-entropy on jittered labels, resumable at any step, on one process or several.

Everything random depends on the seed and the step alone, so a run that was killed and resumed ends in the same weights
as one that was not, and a run on several processes (``accelerate launch``, ``torchrun``), which share each batch, goes
the way of one on a single process up to rounding. Only dropout draws differ from process to process.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from surrogates.progress import Progress
from surrogates.rlm.checkpointing import Best, Run, StateFile
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.evaluation import check_validation, rank_correlation
from surrogates.rlm.labelled import LabelledGraphs, batches
from surrogates.rlm.losses import Objective
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.stepping import Stepper


def train(
    network: RLMNetwork,
    data: LabelledGraphs,
    config: TrainingConfig,
    *,
    validation: LabelledGraphs | None = None,
    checkpoint: Path | None = None,
    start: str = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Train ``network`` in place; it ends on the CPU, in eval mode, with the averaged weights.

    Args:
        network: The model; parameters that need no gradient stay as they are.
        data: Labelled graphs.
        config: How.
        validation: Labelled graphs of the same metrics; the weights that order them best are kept.
        checkpoint: Folder for the state of an unfinished run; a run found there is resumed. The state stays there:
            ``discard_state`` removes it once the result is safe.
        start: What tells the weights it begins with from others; a run from others is not resumed.
        progress: Show a progress bar (plain lines where there is no terminal).

    Returns:
        ``steps`` taken, ``seconds``, the last smoothed ``loss``, ``losses`` (mean of each epoch), ``validation``
        (epoch and mean Kendall tau of each look) and ``best_epoch`` (of the kept weights).

    Raises:
        TrainingError: The loss or its gradient is not finite.
        CheckpointError: The folder holds the state of another run.
        UsageError: The validation labels have no order.
    """
    if validation is not None:
        check_validation(validation)
    per_epoch = math.ceil(len(data.graphs) / config.batch_size)
    total = per_epoch * config.epochs
    state = StateFile(checkpoint, config, total, (data, validation), start)
    stepper = Stepper(network, config, total, state)
    run, accelerator = stepper.run, stepper.accelerator
    objective = Objective(data, config, accelerator)
    course, first, started = run.course, run.course.step, time.perf_counter()
    order = _order(data, config, first // per_epoch)
    done = first // per_epoch * len(data.graphs) + sum(len(rows) for rows in order[: first % per_epoch])
    shown = progress and accelerator.is_main_process
    seen = len(data.graphs) * config.epochs
    with Progress("training", seen, min(done, seen), show=shown, unit="graphs") as bar:
        while course.step < total and not (course.step % per_epoch == 0 and _exhausted(run, config)):
            epoch, index = divmod(course.step, per_epoch)
            if index == 0:
                order, course.epoch = _order(data, config, epoch), 0.0
            value = stepper.gradient(objective, order[index])
            if accelerator.is_main_process:
                state.save_if_due(run)  # before the step: these weights have a finite loss, the next may not
            stepper.step(value)
            course.epoch += value
            if index == per_epoch - 1:
                course.losses.append(course.epoch / per_epoch)
                if validation is not None and _due(epoch + 1, config):
                    _evaluate(run, epoch + 1, rank_correlation(_evaluated(run), validation, accelerator))
                    network.train()
            bar.advance(_note(run), len(order[index]))
    network.load_state_dict(run.best.weights if run.best is not None else run.kept.state_dict())
    network.to("cpu").eval()
    return {
        "steps": course.step,
        "seconds": time.perf_counter() - started,
        "loss": course.smoothed,
        "losses": course.losses,
        "validation": course.validation,
        "best_epoch": run.best.epoch if run.best is not None else len(course.losses),
    }


def _order(data: LabelledGraphs, config: TrainingConfig, epoch: int) -> list[np.ndarray]:
    return batches(data.graphs, config.batch_size, np.random.default_rng([config.seed, 1, epoch]))


def _due(epoch: int, config: TrainingConfig) -> bool:
    return epoch % config.evaluate_every == 0 or epoch == config.epochs


def _evaluated(run: Run) -> RLMNetwork:
    network = run.kept.eval()
    assert isinstance(network, RLMNetwork)
    return network


def _evaluate(run: Run, epoch: int, score: float) -> None:
    run.course.validation.append((epoch, score))
    if run.best is None or score > run.best.score:
        run.best = Best(epoch, score, {name: t.detach().clone() for name, t in run.kept.state_dict().items()})


def _exhausted(run: Run, config: TrainingConfig) -> bool:
    """Whether patience has run out."""
    return bool(config.patience and run.best and len(run.course.losses) - run.best.epoch >= config.patience)


def _note(run: Run) -> str:
    last = f", validation tau {run.course.validation[-1][1]:.3f}" if run.course.validation else ""
    return f"loss {run.course.smoothed:.3f}{last}"
