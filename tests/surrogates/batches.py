"""NAS-Bench-201 cells as batches of graphs."""

from __future__ import annotations

import numpy as np

from search_spaces.nasbench201 import NASBench201
from search_spaces.networks import Networks
from surrogates.gnn.encoding import Encoder, GraphBatch, ReadingConfig, varying_cells
from surrogates.gnn.graph_data import read

NB201 = NASBench201(channels=4, cells=1, input_size=8)


def networks(n: int, *, seed: int = 0, space: NASBench201 = NB201) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(space, list(dict.fromkeys(space.sample(rng) for _ in range(2 * n)))[:n])


def batch_of(nets: Networks, *, sizes: bool = True) -> tuple[Encoder, GraphBatch]:
    parts = read(nets, "cells")
    encoder = Encoder.learn(parts, ReadingConfig(sizes=sizes), varying_cells(parts))
    return encoder, encoder.encode(parts, np.zeros((len(nets), 0)))
