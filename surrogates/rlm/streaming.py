"""Training on a stream: shards of labelled graphs, each as it comes, instead of all of them in memory.

The loop of ``surrogates.rlm.training`` without epochs and validation: what is random depends on seed and step alone, a
killed run resumes at the step it was in and ends in the same weights. ``TrainingConfig.anchor`` plays no part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from search_spaces.errors import UsageError
from surrogates.progress import Progress
from surrogates.rlm.checkpointing import StateFile
from surrogates.rlm.inputs import EncodedText
from surrogates.rlm.labelled import LabelledGraphs, batches
from surrogates.rlm.losses import Objective
from surrogates.rlm.rlm import RLM
from surrogates.rlm.stepping import Stepper

#: Shard ``i`` of a stream: encoded graphs, and their labels with a column a metric.
Stream = Callable[[int], tuple[Sequence[EncodedText], pd.DataFrame]]


class Streamed(NamedTuple):
    """How far training came.

    Attributes:
        step: Steps taken.
        total: Steps of the whole training.
        loss: Smoothed.
        seconds: Of this call.
    """

    step: int
    total: int
    loss: float
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.total


def train_on_stream(
    rlm: RLM,
    stream: Stream,
    *,
    shards: int,
    shard: int,
    validation: tuple[Sequence[EncodedText], pd.DataFrame],
    checkpoint: Path,
    minutes: float = 0.0,
    progress: bool = True,
) -> Streamed:
    """Train ``rlm`` in place by ``rlm.training``; it ends on the CPU with the averaged weights.

    Args:
        rlm: With metrics, scales and weights; see ``RLM.initialise``.
        stream: Gives shards by number.
        shards: How many to learn from.
        shard: Graphs in each.
        validation: Graphs and labels that the stream does not hold; they tell one stream from another on resuming.
        checkpoint: Folder for the state; a run found there is resumed. The state stays.
        minutes: Stop after so long, to be resumed by the same call; 0 goes on to the end.
        progress: Show a progress bar.

    Raises:
        UsageError: A shard of another size.
        TrainingError: The loss or its gradient is not finite.
        CheckpointError: The folder holds the state of another run.
    """
    config, network = rlm.training, rlm.network
    per_shard = math.ceil(shard / config.batch_size)
    total = per_shard * shards
    state = StateFile(checkpoint, config, total, (labelled(rlm, *validation),))
    stepper = Stepper(network, config, total, state)
    run, accelerator = stepper.run, stepper.accelerator
    course, started = run.course, time.perf_counter()
    order: list[np.ndarray] = []
    objective: Objective | None = None
    done = min(course.step * config.batch_size, shards * shard)
    with Progress("pretraining", shards * shard, done, show=progress, unit="graphs") as bar:
        while course.step < total:
            number, index = divmod(course.step, per_shard)
            if objective is None or index == 0:
                data = labelled(rlm, *stream(number))
                if len(data.graphs) != shard:
                    raise UsageError(f"shard {number} holds {len(data.graphs)} graphs instead of {shard}")
                objective = Objective(data, config, accelerator)
                order = batches(data.graphs, config.batch_size, np.random.default_rng([config.seed, 1, number]))
            value = stepper.gradient(objective, order[index])
            paused = bool(minutes) and time.perf_counter() - started > 60 * minutes
            if accelerator.is_main_process:
                state.saved = None if paused else state.saved  # a pause keeps the very last step
                state.save_if_due(run)
            if paused:
                break
            stepper.step(value)
            bar.advance(f"loss {course.smoothed:.3f}", len(order[index]))
    network.load_state_dict(run.kept.state_dict())
    network.to("cpu").eval()
    seconds = time.perf_counter() - started
    return Streamed(course.step, total, course.smoothed if course.smoothed is not None else math.nan, seconds)


def labelled(rlm: RLM, graphs: Sequence[EncodedText], labels: pd.DataFrame) -> LabelledGraphs:
    """Encoded graphs with labels on the scales of ``rlm``."""
    columns = labels[list(rlm.metrics)].to_numpy(dtype=float).T
    scaled = np.stack([scale.forward(column) for scale, column in zip(rlm.scales, columns, strict=True)], axis=1)
    count = len(rlm.metrics)
    return LabelledGraphs(graphs, scaled, rlm.scales, tuple(range(count)), (1.0,) * count)
