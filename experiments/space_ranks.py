"""Targets as ranks within their search space: what a number is worth beside the other networks of its kind.

Spaces differ by orders of magnitude in size and depth, their networks by little. On one scale over all spaces the
leading digits say which space a network is of, which its text says as well; as a quantile within the space they say
what tells its networks apart, and that is what accuracy and latency are asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from surrogates.rlm.scales import Scale


@dataclass(frozen=True)
class SpaceRanks:
    """Quantile scales by space and target.

    Attributes:
        targets: Names of the targets that vary within a space.
        scales: Scale of each (space, target) that varies within its space.
    """

    targets: tuple[str, ...]
    scales: dict[tuple[str, str], Scale]

    @classmethod
    def learn(cls, frame: pd.DataFrame, targets: Sequence[str]) -> SpaceRanks:
        """The scales of ``frame``: a column ``space`` and one a target (unknown and infinite values ignored)."""
        scales = {}
        for space, part in frame.groupby("space"):
            for target in targets:
                values = part[target].to_numpy(dtype=float)
                values = values[np.isfinite(values)]
                if len(np.unique(values)) > 1:
                    scales[str(space), target] = Scale.fit("quantile", values, digits=3)
        return cls(tuple(t for t in targets if any(name == t for _, name in scales)), scales)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Ranks in (0, 1) of the targets of ``frame``; NaN where unknown, or where the space has one value only."""
        ranks = np.full((len(frame), len(self.targets)), np.nan)
        for space, rows in frame.groupby("space").indices.items():
            for column, target in enumerate(self.targets):
                if (scale := self.scales.get((str(space), target))) is not None:
                    ranks[rows, column] = scale.forward(frame[target].to_numpy(dtype=float)[rows])
        return pd.DataFrame(ranks, index=frame.index, columns=list(self.targets))
