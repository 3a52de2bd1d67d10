"""Fresh networks of a space beside the labelled ones: what the model reads of them, and what processes do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from search_spaces.networks import Networks
from surrogates.free_targets import count_sets
from surrogates.genomes import one_hot
from surrogates.rlm.distillation import Processes, TeachingConfig
from surrogates.shaped_operations import by_reading, matrix, vocabulary


class Pool(NamedTuple):
    """``k`` fresh networks of a space, which nobody measured.

    Attributes:
        texts: What the model reads of each.
        read: What the checkpoint predicts of each, ``(k, m)``.
        networks: They themselves.
        counts: Their ``count_sets``.
    """

    texts: list[str]
    read: np.ndarray
    networks: Networks
    counts: Sequence[np.ndarray]

    def processes(self, networks: Networks, read: np.ndarray, teaching: TeachingConfig) -> Processes:
        """Processes on ``n`` labelled ``networks``, then these.

        Args:
            networks: Of the same space.
            read: What the checkpoint predicts of each, ``(n, m)``.
            teaching: What else processes read, and how noisy labels are at least.
        """
        both, parts = (networks, self.networks), []
        if teaching.genes:
            parts.append(np.vstack([one_hot(each, instead="genes=False") for each in both]))
        if teaching.shaped:
            for own, fresh in zip(*(by_reading(each).values() for each in both), strict=True):
                parts.append(matrix([*own, *fresh], vocabulary([*own, *fresh])))
        counts = [*map(np.vstack, zip(count_sets(networks), self.counts, strict=True))]
        read = np.vstack([read, self.read])
        return Processes([*counts, read, np.hstack([counts[-1], read])], parts, teaching.least_noise)
