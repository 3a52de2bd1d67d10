"""How hard to train: labels that are set aside choose between the training that was asked for and a calmer one.

A ranking loss can learn a smooth metric to the last place, such as a latency that adds up over blocks. Of a noisy one,
such as a measured latency or the accuracy of a single seed, it may learn the noise by heart. Which of the two a metric
is shows only with its labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from search_spaces.errors import UsageError
from surrogates.rlm.calibration import rows_of
from surrogates.rlm.config import TrainingConfig
from surrogates.rlm.labelled import Graphs

if TYPE_CHECKING:
    from surrogates.rlm.rlm import RLM


@dataclass(frozen=True)
class SelectionConfig:
    """Another training, and what decides between it and ``TrainingConfig``.

    Attributes:
        set_aside: Share of the labels that decides, at the price of two further fits to the others; 0 trains as
            ``TrainingConfig`` says.
        other_ranking: ``TrainingConfig.ranking`` of the other training.
        other_passes: Its epochs, as a share of those of ``TrainingConfig``.
    """

    set_aside: float = 0.0
    other_ranking: float = 0.0
    other_passes: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.set_aside < 1:
            raise UsageError(f"set_aside is {self.set_aside}; it must lie in [0, 1)")
        if self.other_ranking < 0 or self.other_passes <= 0:
            raise UsageError(
                f"other_ranking is {self.other_ranking} and other_passes {self.other_passes}; at least 0, and above 0"
            )

    def other(self, training: TrainingConfig) -> TrainingConfig:
        """The other training beside ``training``."""
        return replace(training, ranking=self.other_ranking, epochs=max(1, round(self.other_passes * training.epochs)))


class Selected(NamedTuple):
    """What was chosen.

    Attributes:
        asked: ``TrainingConfig`` as it was given.
        taken: The better one.
    """

    asked: TrainingConfig
    taken: TrainingConfig


def better(
    refit: Callable[[TrainingConfig, Graphs, pd.DataFrame], RLM],
    trainings: Sequence[TrainingConfig],
    graphs: Graphs,
    labels: pd.DataFrame,
    share: float,
) -> TrainingConfig:
    """The one of ``trainings`` that orders labels best which it did not see, by mean Kendall tau; of equals the first.

    Args:
        refit: A model trained so on graphs and labels, from the beginning.
        trainings: What to choose from.
        graphs: ``n`` graphs.
        labels: ``n`` rows, columns named by strings; NaN where not measured. A metric counts that has a label to learn
            from and two different ones among those set aside; equal predictions count as 0.
        share: Share of the labels that is set aside.

    Raises:
        UsageError: No metric counts.
    """
    order = np.random.default_rng([trainings[0].seed, 8]).permutation(len(graphs))
    held, rest = np.split(order, [round(share * len(order))])
    known, unseen = (labels.iloc[rows].reset_index(drop=True) for rows in (rest, held))
    known = known.dropna(axis=1, how="all")
    judged = [name for name in known.columns if len(np.unique(unseen[name].dropna())) > 1]
    if not judged:
        raise UsageError(
            f"the {len(held)} of {len(graphs)} labels that are set aside say nothing; give more, or set_aside=0"
        )

    def score(training: TrainingConfig) -> float:
        predicted = refit(training, rows_of(graphs, rest), known).predict(rows_of(graphs, held)).frame()
        taus = []
        for name in judged:
            truth = unseen[name].to_numpy(dtype=float)
            there = np.isfinite(truth)
            taus.append(kendalltau(truth[there], predicted[name].to_numpy()[there]).statistic)
        return float(np.nan_to_num(taus).mean())

    return max(trainings, key=score)  # of equals the first
