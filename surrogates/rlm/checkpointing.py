"""The state of an unfinished fit: one file, always whole, tied to the settings and data it was begun with."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import CheckpointError
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.labelled import LabelledGraphs

STATE_FILE = "training.pt"
#: Settings that may change when a fit is resumed: two do not touch its result, the rate is what a diverging fit needs.
FREE = ("threads", "checkpoint_minutes", "learning_rate")


@dataclass
class Best:
    """The best weights so far by the validation score.

    Attributes:
        epoch: After how many epochs they were found.
        score: Mean Kendall tau over the metrics.
        weights: A state dict of the network.
    """

    epoch: int
    score: float
    weights: dict[str, Tensor]


@dataclass
class Course:
    """How training went so far.

    Attributes:
        step: Steps taken.
        smoothed: Running mean of the loss; None before the first step.
        losses: Mean loss of each finished epoch.
        validation: ``(epochs, score)`` of each look at the validation graphs.
        epoch: Sum of the losses of the current epoch.
    """

    step: int = 0
    smoothed: float | None = None
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    epoch: float = 0.0


@dataclass
class Run:
    """Everything that changes while training."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None
    course: Course = field(default_factory=Course)
    best: Best | None = None

    @property
    def kept(self) -> nn.Module:
        """The weights that are kept in the end: the averaged ones where there are any."""
        return self.network if self.average is None else self.average


class StateFile:
    """Reads and writes a ``Run``; to a temporary name first, so that a kill leaves the last state whole.

    Args:
        folder: Where; None keeps no state.
        config: Training settings.
        total: Steps of the whole fit.
        data: What is learned, and what is validated on.
        start: What tells the weights it begins with from others.
    """

    def __init__(
        self,
        folder: Path | None,
        config: TrainingConfig,
        total: int,
        data: tuple[LabelledGraphs | None, ...],
        start: str = "",
    ) -> None:
        self.path = state_path(folder)
        settings = {name: value for name, value in asdict(config).items() if name not in FREE}
        prints = [part.fingerprint() if part is not None else "" for part in data] if folder is not None else []
        self.identity: dict[str, Any] = {**settings, "total": total, "data": " ".join(prints), "start": start}
        self.interval = 60 * config.checkpoint_minutes
        self.saved: float | None = None

    def load(self, run: Run) -> None:
        """Fill ``run`` with the state found, if any.

        Raises:
            CheckpointError: It belongs to a fit with other settings, data or start, or cannot be read.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            found = state["identity"]
        except Exception as error:  # torch raises whatever unpickling a foreign file runs into
            raise CheckpointError(f"{self.path} is not the state of an unfinished fit: {error}") from error
        defaults = asdict(TrainingConfig())  # a setting that did not exist yet had the effect of its default
        different = [k for k, v in self.identity.items() if found.get(k, defaults.get(k, v)) != v]
        if different:
            raise CheckpointError(
                f"{self.path} holds an unfinished run with other settings, data or start ({', '.join(different)}); "
                "use the same to resume it, or another folder"
            )
        run.network.load_state_dict(state["network"])
        run.optimizer.load_state_dict(state["optimizer"])
        if run.average is not None:
            run.average.load_state_dict(state["average"])
        run.course = Course(**state.get("course", {"step": state["step"], "smoothed": state.get("loss")}))
        run.best = Best(**state["best"]) if state.get("best") else None
        self.saved = time.monotonic()

    def save_if_due(self, run: Run) -> None:
        """Write ``run`` where the last state is old enough, or there is none yet.

        Call it with weights whose loss and gradients are known to be finite.
        """
        if self.path is None or (self.saved is not None and time.monotonic() - self.saved < self.interval):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        state = {
            "identity": self.identity,
            "step": run.course.step,
            "course": vars(run.course),
            "network": run.network.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "average": run.average.state_dict() if run.average is not None else None,
            "best": vars(run.best) if run.best is not None else None,
        }
        torch.save(state, temporary)
        temporary.replace(self.path)
        self.saved = time.monotonic()


def weights_print(network: nn.Module) -> str:
    """A hash of all weights."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def state_path(folder: Path | None) -> Path | None:
    """The state file in ``folder``."""
    return folder / STATE_FILE if folder is not None else None


def discard_state(folder: Path | None) -> None:
    """Remove the state of a fit that is finished."""
    path = state_path(folder)
    if path is not None:
        path.unlink(missing_ok=True)
