"""Where training on labels begins: what is taken over of a checkpoint, and what of it a new metric starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import softmax

from search_spaces.errors import UnknownNameError, UsageError
from surrogates.rlm.read_off import agreement

#: ``StartConfig.like``: choose by the labels.
BEST = "best"
#: By how much more of Kendall's tau ``StartConfig.like`` counts where the labels have a say.
FAVOUR = 0.2


@dataclass(frozen=True)
class StartConfig:
    """Where training on labels begins.

    Attributes:
        checkpoint: A folder, or the name of a shipped checkpoint.
        dropout: Dropout rate from here on; the pretraining needed none.
        shrink: What the matrices of the checkpoint are multiplied by before the labels. Below 1 it says less and can be
            taught more: the first half of shrink and perturb (Ash & Adams, NeurIPS 2020, arXiv 1910.08475), for as many
            labels as would teach a network from scratch.
        freeze: Modules whose weights stay as they are, e.g. ``("encoder",)``.
        like: Metric of the checkpoint whose embedding new metrics start from, one for all or by new metric; empty for
            random ones; ``best``, also for a metric that is not named, for the one whose predictions order the labels
            best. What goes with accuracy is nearer to it than nothing.
        blend: How much the labels say about that: half of the start is ``like``, half the mean of all embeddings, each
            weighted by the exponential of ``blend`` times the Kendall tau between its predictions and the labels,
            ``FAVOUR`` more for ``like``. A mean of embeddings predicts about the mean of what they predict. 0 takes
            ``like`` alone; with ``best`` there is no other half. A metric that the checkpoint knows by name starts so,
            too, from itself in place of ``like``: under one name, another space may ask for something else.
        weights: Weight of a metric's loss where ``metric_weights`` of ``fit`` does not name it; 1 where neither does.
    """

    checkpoint: str
    dropout: float = 0.1
    shrink: float = 1.0
    freeze: tuple[str, ...] = ()
    like: str | Mapping[str, str] = BEST
    blend: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0 < self.shrink <= 1:
            raise UsageError(f"shrink is {self.shrink}; it must lie in (0, 1]")
        if self.blend < 0 or (self.blend and not self.like):
            raise UsageError(f"blend is {self.blend} and like {self.like!r}; blend is at least 0, and 0 without like")

    def shares(self, known: Sequence[str], read: np.ndarray, labels: pd.DataFrame) -> np.ndarray | None:
        """How much of each metric of the checkpoint each new metric starts from.

        Args:
            known: The ``k`` metrics of the checkpoint.
            read: What it predicts of the labelled networks, ``(n, k)``; not looked at unless ``asks``.
            labels: Their labels, ``n`` rows, a column each of the ``m`` metrics.

        Returns:
            Shares, ``(m, k)``; None where all start from random numbers.

        Raises:
            UnknownNameError: The checkpoint has no metric ``like``.
        """
        if not self.like:
            return None
        found = []
        for name, values in labels.items():
            wanted = self.like if isinstance(self.like, str) else self.like.get(str(name), BEST)
            named = str(name) if name in known else wanted
            if named not in (BEST, *known):
                raise UnknownNameError(f"metric of {self.checkpoint}", named, [BEST, *known])
            favoured = np.array([metric == named for metric in known], dtype=float)
            if named != BEST and not self.blend:
                found.append(favoured)
                continue
            taus = agreement(read, values.to_numpy(dtype=float)) + FAVOUR * favoured
            shares = softmax(self.blend * taus) if self.blend else np.eye(len(known))[np.argmax(taus)]
            found.append(shares if named == BEST else (shares + favoured) / 2)
        return np.reshape(found, (labels.shape[1], len(known)))

    @property
    def asks(self) -> bool:
        """Whether the checkpoint is asked about labelled networks to find ``shares``."""
        return bool(self.blend) or self.like == BEST or not isinstance(self.like, str)
