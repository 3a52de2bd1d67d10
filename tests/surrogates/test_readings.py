"""Predictions averaged over orders of lines."""

from __future__ import annotations

import numpy as np
import pytest

import search_spaces
from search_spaces.errors import UsageError
from search_spaces.networks import Networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig
from surrogates.rlm.decoding import Outcomes, mixture
from surrogates.text import linearize

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
QUICK = TrainingConfig(epochs=12, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1)


def networks(count: int, seed: int) -> Networks:
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(seed)
    return Networks(space, [space.sample(rng) for _ in range(count)])


def test_readings_average_the_distributions_of_several_orders() -> None:
    known, some = networks(48, 0), networks(12, 5)
    rlm = RLM(TINY, QUICK).fit(known, free_targets(known)[["log_params", "live_log_macs"]])
    one = rlm.predict(some)
    rlm.decoding = DecodingConfig(readings=3)
    three = rlm.predict(some)
    assert not np.allclose(one.mean, three.mean)
    # a network is read the same way wherever it stands
    np.testing.assert_allclose(rlm.predict(some[6:]).mean, three.mean[6:], rtol=1e-5)
    # networks with a single order of lines read as before; here each reading is the same text
    text = linearize(some[0])
    rlm.decoding = DecodingConfig()
    np.testing.assert_allclose(rlm.predict([text]).mean, one.mean[:1], rtol=1e-5)
    rlm.decoding = DecodingConfig(readings=2)
    with pytest.raises(UsageError, match="a text has one order"):
        rlm.predict([text])
    with pytest.raises(UsageError, match="readings is 0"):
        DecodingConfig(readings=0)


def test_a_mixture_weighs_readings_equally() -> None:
    first = Outcomes(np.array([[[0.1, 0.3]]]), np.array([[[0.5, 0.5]]]))
    second = Outcomes(np.array([[[0.9]]]), np.array([[[1.0]]]))
    mixed = mixture([first, second])
    assert mixed.mean()[0, 0] == pytest.approx((0.2 + 0.9) / 2)
    assert mixed.weights.sum() == pytest.approx(1)
    assert mixture([first]) is first
