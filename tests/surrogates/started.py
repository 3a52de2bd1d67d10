"""A small checkpoint to start from, and networks to fit it to."""

from __future__ import annotations

import numpy as np

import search_spaces
from search_spaces.networks import Networks
from surrogates.rlm import ModelConfig, TrainingConfig

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
QUICK = TrainingConfig(epochs=12, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1)
SPACE = search_spaces.get("nasbench201")


def networks(count: int, seed: int) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(SPACE, [SPACE.sample(rng) for _ in range(count)])
