"""Genomes as numbers: what a search space, not a graph, knows of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from search_spaces.errors import UsageError
from search_spaces.networks import Networks


def one_hot(graphs: Sequence[onnx.ModelProto], *, instead: str) -> np.ndarray:
    """Genes of ``n`` networks of a space, one-hot: ``(n, sum of cardinalities)``.

    Args:
        graphs: ``Networks``.
        instead: What to do where there are bare graphs, which have no genes.

    Raises:
        UsageError: They are bare graphs.
    """
    if not isinstance(graphs, Networks):
        raise UsageError(
            f"genes need search_spaces.networks.Networks, not bare graphs; pass Networks(space, architectures) "
            f"or {instead}"
        )
    genomes = np.array([arch.genome for arch in graphs.architectures])
    genes = zip(genomes.T, graphs.space.cardinalities, strict=True)
    return np.hstack([gene[:, None] == np.arange(n) for gene, n in genes]).astype(float)
