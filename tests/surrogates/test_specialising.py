"""A checkpoint goes on with free targets of one search space."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import search_spaces
from nasrlm.metrics import kendall_tau
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.networks import Networks, sample_networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.specialising import SpecialisingConfig, specialise

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
TRAINING = TrainingConfig(epochs=30, batch_size=16, learning_rate=1e-2, threads=1)
SPACE = search_spaces.get("nasbench201")


@pytest.fixture
def known() -> RLM:
    """A model that knows parameters and live MACs of another space, barely."""
    networks = sample_networks(search_spaces.get("nasbench101"), 32, seed=0)
    counts = free_targets(networks)[["log_params", "live_log_macs"]].rank(pct=True)
    quick = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-2, threads=1)
    return RLM(TINY, quick).fit(networks, counts.assign(jacov=counts["log_params"]))


def test_counts_of_the_space_are_learned_without_a_label(known: RLM) -> None:
    networks, test = sample_networks(SPACE, 96, seed=0), sample_networks(SPACE, 60, seed=1)
    truth = free_targets(test)

    def taus(rlm: RLM) -> list[float]:
        predicted = rlm.predict(test).frame()
        return [kendall_tau(truth[name].to_numpy(), predicted[name].to_numpy()) for name in truth if name in predicted]

    before, scales = taus(known), known.scales
    after = specialise(known, networks, training=TRAINING)
    assert after is known and after.scales == scales and after.metrics == ("log_params", "live_log_macs", "jacov")
    assert min(taus(after)) > 0.6 > min(before)


def test_what_cannot_be_learned_is_refused(known: RLM) -> None:
    networks = sample_networks(SPACE, 4, seed=0)
    with pytest.raises(UnknownNameError, match="zen"):
        specialise(known, networks, pd.DataFrame({"zen": np.arange(4.0)}), training=TRAINING)
    with pytest.raises(UsageError, match="2 networks differ in nothing"):
        specialise(known, Networks(SPACE, [networks.architectures[0]] * 2), training=TRAINING)
    for wrong in ({"networks": 1}, {"networks": 4, "scored": 5}):
        with pytest.raises(UsageError, match="scored"):
            SpecialisingConfig(**wrong)
