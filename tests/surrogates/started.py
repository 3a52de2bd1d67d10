"""A small checkpoint to start from, and networks to fit it to."""

from __future__ import annotations

import numpy as np

import search_spaces
from search_spaces.fbnet import BLOCKS, STAGES
from search_spaces.networks import Networks
from surrogates.rlm import ModelConfig, TrainingConfig

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
QUICK = TrainingConfig(epochs=12, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1)
SPACE = search_spaces.get("nasbench201")


def networks(count: int, seed: int) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(SPACE, [SPACE.sample(rng) for _ in range(count)])


def priced_blocks(count: int) -> tuple[Networks, np.ndarray]:
    """Networks of FBNet, and a sum over their layers: every block has a price in every stage."""
    space, rng = search_spaces.get("fbnet"), np.random.default_rng(0)
    found = Networks(space, [space.sample(rng) for _ in range(count)])
    stages = np.repeat(np.arange(len(STAGES)), [layers for _, layers, _ in STAGES])
    price = rng.exponential(size=(len(STAGES), len(BLOCKS)))
    return found, np.array([price[stages, arch.genome].sum() for arch in found.architectures])
