"""The pretrained language model as a surrogate that is fitted to however many labels there are.

Its settings depend on their number and on what they measure: steps, the hold of the checkpoint, the metric to start
from. ``FewShotRLM`` chooses them when it is fitted, by the recipe of the benchmark (``nasrlm/bench/pretrained.py``), so
that a search which buys labels round by round can refit it each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasrlm.bench.methods import METHODS, configure
from nasrlm.bench.pretrained import START, like_of, recipe, weights_among
from search_spaces.errors import UsageError
from surrogates.base import Surrogate
from surrogates.free_targets import TARGETS
from surrogates.rlm import RLM
from surrogates.rlm.config import LINES, ReadingConfig, TrainingConfig
from surrogates.rlm.distillation import TeachingConfig
from surrogates.rlm.few_shot import FineTunedRLM
from surrogates.rlm.labelled import FitRequest
from surrogates.rlm.starting import StartConfig


class FewShotRLM(FineTunedRLM):
    """Goes on from a checkpoint by the recipe for as many labels as ``fit`` is given, and then is an ``RLM``.

    What would take longest, and again in every round, is left out: learning what the labels of fresh networks may be
    (``TeachingConfig``), which also needs a space, not models alone.

    Args:
        checkpoint: A folder or a shipped name; see ``is_start``. ``rlm-small`` learned labels of every table of the
            project: to be judged on one of those, begin with ``nasrlm.bench.pretrained.judged_from``.
        seed: Seed of every fit.

    Raises:
        UnknownNameError: There is no such checkpoint.
        UsageError: It is none that the recipe is for.
    """

    def __init__(self, checkpoint: str | Path = START, *, seed: int = 0) -> None:
        super().__init__(StartConfig(str(checkpoint)))
        found = RLM.from_pretrained(checkpoint)
        if not is_start(found):
            raise UsageError(f"{checkpoint} reads no lines or knows no free targets; begin with {START}, say")
        self._before, self._seed = found.metrics, seed

    def _settle(self, request: FitRequest) -> FitRequest:
        """The recipe for so many labels; of the settings of an earlier fit nothing is left."""
        self.start, self.training = StartConfig(self.start.checkpoint), TrainingConfig()
        self.reading, self.teaching = ReadingConfig(), TeachingConfig()
        chosen = few_shot_settings(self._before, request.metrics, len(request.labels), pool=False)
        configure(self, chosen, seed=self._seed)
        return super()._settle(request)


def is_start(surrogate: Surrogate) -> bool:
    """Whether the recipe is for going on from ``surrogate``: it reads lines and knows free targets."""
    return (
        isinstance(surrogate, RLM) and surrogate.model.encoder == LINES and bool(set(surrogate.metrics) & set(TARGETS))
    )


def few_shot_settings(
    known: Sequence[str], metrics: Sequence[str], size: int, *, pool: bool = True
) -> dict[str, object]:
    """Settings for ``size`` labels of ``metrics``, for ``nasrlm.bench.methods.configure``.

    Dead operations are not read where they touch none of the metrics; threads are left to torch.

    Args:
        known: Metrics of the checkpoint.
        metrics: What is to be learned.
        size: Number of labels.
        pool: Whether fresh networks may carry them further.
    """
    chosen = {**recipe(size, pool=pool), "training.threads": 0, "start.like": like_of(metrics, known)}
    return {**chosen, **weights_among(metrics, size), **METHODS["rlm"].blind(metrics)}
