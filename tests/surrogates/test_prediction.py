"""Predictions of many graphs: chunk by chunk, with the same result as at once."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import onnx
import pandas as pd
import pytest

import search_spaces
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.networks import Networks
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig, prediction
from surrogates.text import linearize

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
COUNT = 30


@pytest.fixture(scope="module")
def networks() -> Networks:
    space, rng = search_spaces.get("nasbench101"), np.random.default_rng(0)
    return Networks(space, [space.sample(rng) for _ in range(COUNT)])


@pytest.fixture(scope="module")
def rlm(networks: Networks) -> RLM:
    labels = pd.DataFrame({"a": np.arange(COUNT, dtype=float), "b": np.arange(COUNT, dtype=float)[::-1] % 7})
    return RLM(TINY, TrainingConfig(epochs=2, threads=1)).fit(networks, labels)


class Counted(Sequence[onnx.ModelProto]):
    """Networks that note how many were asked for between two looks at the decoder."""

    def __init__(self, networks: Networks, asked: list[int]) -> None:
        self.networks, self.asked = networks, asked

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, index: int | slice) -> onnx.ModelProto | Counted:  # type: ignore[override]
        if isinstance(index, slice):
            self.asked.append(0)
            return Counted(self.networks[index], self.asked)
        model = self.networks[index]  # raises behind the end, which ends a loop
        self.asked[-1] += 1
        return model


def test_chunks_change_nothing(rlm: RLM, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    given = pd.DataFrame({"a": np.linspace(0, 29, COUNT)}, index=range(100, 100 + COUNT))
    whole, told = rlm.predict(networks), rlm.predict(networks, ["b"], given=given)
    monkeypatch.setattr(prediction, "CHUNK", 7)
    asked: list[int] = []
    parts, told_parts = rlm.predict(Counted(networks, asked)), rlm.predict(networks, ["b"], given=given)
    assert asked == [7, 7, 7, 7, 2]
    for name in ("mean", "std", "quantiles"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(getattr(told_parts, name), getattr(told, name), rtol=1e-4, atol=1e-5)
    assert not np.allclose(told.mean[:, 0], whole.mean[:, 1])


def test_chunks_draw_on(rlm: RLM, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal chunks must not be given equal draws."""
    text = linearize(networks[0])
    monkeypatch.setattr(prediction, "CHUNK", 2)
    monkeypatch.setattr(rlm, "decoding", DecodingConfig(method="sample", samples=8))
    first, second = rlm.predict([text] * 8, ["a"]), rlm.predict([text] * 8, ["a"])
    np.testing.assert_array_equal(first.mean, second.mean)
    assert len(np.unique(first.mean[::2])) > 1


def test_no_graphs_have_no_predictions(rlm: RLM) -> None:
    empty = rlm.predict([])
    assert empty.mean.shape == empty.std.shape == (0, 2)
    assert empty.quantiles.shape == (0, 2, len(rlm.decoding.levels))


def test_given_values_must_fit_the_graphs(rlm: RLM, networks: Networks) -> None:
    with pytest.raises(UsageError, match="3 graphs and 2 rows of given"):
        rlm.predict(networks[:3], given=pd.DataFrame({"a": [1.0, 2.0]}))
    with pytest.raises(UnknownNameError, match="'c'"):
        rlm.predict(networks[:1], given=pd.DataFrame({"c": [1.0]}))


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with prediction.without_collector():
            assert not gc.isenabled()
        assert gc.isenabled() == on
        with pytest.raises(ZeroDivisionError), prediction.without_collector():
            _ = 1 / 0
        assert gc.isenabled() == on
    finally:
        (gc.enable if before else gc.disable)()
