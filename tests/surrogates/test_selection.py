"""Labels that are set aside choose between two trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from search_spaces.errors import UsageError
from search_spaces.networks import Networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, CalibrationConfig, ModelConfig, TrainingConfig
from surrogates.rlm.few_shot import FineTunedRLM, StartConfig
from surrogates.rlm.selection import SelectionConfig

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
#: Learns next to nothing in its epoch; twelve of them learn a count.
SHORT = TrainingConfig(epochs=1, batch_size=16, learning_rate=1e-2, threads=1, ranking=5.0)
LONG = SelectionConfig(0.25, other_passes=12.0)
SPACE = search_spaces.get("nasbench201")


def networks(count: int, seed: int) -> Networks:
    rng = np.random.default_rng(seed)
    return Networks(SPACE, [SPACE.sample(rng) for _ in range(count)])


KNOWN, TEST = networks(64, 0), networks(30, 1)
LABELS = free_targets(KNOWN)[["log_params"]]


def test_the_training_that_orders_unseen_labels_better_is_taken() -> None:
    rlm = RLM(TINY, SHORT, selection=LONG).fit(KNOWN, LABELS)
    assert rlm.training == LONG.other(SHORT) == replace(SHORT, epochs=12, ranking=0.0)
    plain = RLM(TINY, rlm.training).fit(KNOWN, LABELS)
    np.testing.assert_array_equal(rlm.predict(TEST).mean, plain.predict(TEST).mean)
    worse = SelectionConfig(0.25, other_passes=1 / 12)
    other = RLM(TINY, replace(SHORT, epochs=12), selection=worse).fit(KNOWN, LABELS)
    assert other.training == replace(SHORT, epochs=12)


def test_every_fit_chooses_anew_and_the_checkpoint_says_how_it_was_trained(tmp_path: Path) -> None:
    rlm = RLM(TINY, SHORT, selection=LONG).fit(KNOWN, LABELS)
    first = rlm.predict(TEST).mean
    rlm.save_pretrained(tmp_path)
    assert RLM.from_pretrained(tmp_path).training == LONG.other(SHORT)
    np.testing.assert_array_equal(rlm.fit(KNOWN, LABELS).predict(TEST).mean, first)
    rlm.selection = SelectionConfig()
    assert rlm.fit(KNOWN, LABELS).training == SHORT


def test_going_on_from_a_checkpoint_chooses_too_and_calibrates_what_it_chose(tmp_path: Path) -> None:
    RLM(TINY, replace(SHORT, epochs=2)).fit(KNOWN, LABELS).save_pretrained(tmp_path)
    labels = pd.DataFrame({"macs": free_targets(KNOWN)["live_log_macs"], "never": [1.0, 2.0] + [np.nan] * 62})
    start, folds = StartConfig(str(tmp_path), weights={"macs": 2.0, "never": 0.5}), CalibrationConfig(folds=2)
    chosen = FineTunedRLM(start, SHORT, selection=LONG, calibration=folds).fit(KNOWN, labels)
    assert chosen.training == LONG.other(SHORT) and chosen.metrics == ("macs", "never")
    told = FineTunedRLM(start, chosen.training, calibration=folds).fit(KNOWN, labels)
    assert chosen.spreads == told.spreads and chosen.spreads[0] != 1.0


def test_labels_that_cannot_decide_are_refused() -> None:
    rlm = RLM(TINY, SHORT, selection=SelectionConfig(0.1))
    with pytest.raises(UsageError, match="the 1 of 8 labels"):
        rlm.fit(networks(8, 2), free_targets(networks(8, 2))[["log_params"]])
    with pytest.raises(UsageError, match=r"set_aside is 1\.0"):
        SelectionConfig(1.0)
    with pytest.raises(UsageError, match="other_passes 0"):
        SelectionConfig(0.5, other_passes=0)
