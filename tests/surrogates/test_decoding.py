"""Every decode is a number, whatever the weights: the grammar holds at each step of either mode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from surrogates.numbers import ALPHABET, FloatFormat, FractionFormat, NumberFormat
from surrogates.rlm import ModelConfig
from surrogates.rlm.decoding import Outcomes, _Hypotheses, expand, remember_given, sample
from surrogates.rlm.inputs import collate
from surrogates.rlm.model import Memory, RLMNetwork
from surrogates.rlm.wired import WiredReader
from surrogates.text import linearize

TINY = ModelConfig(width=16, encoder_layers=1, decoder_layers=1, feed_forward=16, heads=("producers", "all"))
FORMATS = (FractionFormat(3), FractionFormat(1), FloatFormat(4), FloatFormat(2))
GRAPHS, METRICS = 5, 2


@pytest.fixture(scope="module")
def texts() -> list[str]:
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    return [linearize(space.to_onnx(space.sample(rng))) for _ in range(GRAPHS)]


def networks(texts: list[str]) -> Iterator[tuple[RLMNetwork, Memory, NumberFormat]]:
    """Without end: fresh networks, from barely random to weights so large that single tokens take all the mass."""
    reader = WiredReader.learn(texts, TINY, vocabulary=300)
    batch = collate(reader.encode(texts, context=TINY.context))
    seed = 0
    while True:
        for number_format in FORMATS:
            for std in (None, 1.0, 30.0):
                torch.manual_seed(seed)
                seed += 1
                network = RLMNetwork(TINY, reader.encoder(TINY), METRICS, len(number_format.steps)).eval()
                if std is not None:
                    for parameter in network.parameters():
                        torch.nn.init.normal_(parameter, std=std)
                yield network, network.memory(batch), number_format


def invalid(outcomes: Outcomes, number_format: NumberFormat, *, complete: bool) -> int:
    """How many values are no numbers, or (if ``complete``) none that the format can write."""
    values = outcomes.values
    wrong = ~np.isfinite(values)
    if complete:
        with np.errstate(invalid="ignore"):
            flat = np.where(wrong, 0.0, values).ravel()
        again = number_format.decode(number_format.encode(flat)).reshape(values.shape)
        largest = np.abs(values).max(initial=1.0)
        wrong |= np.abs(again - values) > 1e-9 * largest
    return int(wrong.sum())


def count_invalid(texts: list[str], decodes: int, samples: int) -> tuple[int, int]:
    """Decodes made, and how many of them were invalid."""
    made = failed = 0
    generator = torch.Generator().manual_seed(0)
    names = list(range(METRICS))
    with torch.inference_mode():
        for network, memory, number_format in networks(texts):
            drawn = sample(network, memory, names, number_format, samples, generator)
            failed += invalid(drawn, number_format, complete=True)
            exact = expand(network, memory, names, number_format, (4, 4))
            failed += invalid(exact, number_format, complete=False)
            failed += int((np.abs(exact.weights.sum(-1) - 1) > 1e-5).sum())
            made += drawn.values.size
            if made >= decodes:
                return made, failed
    raise AssertionError("unreachable")


def test_twenty_thousand_decodes_are_numbers(texts: list[str]) -> None:
    made, failed = count_invalid(texts, 20_000, 100)
    assert made >= 20_000
    assert failed == 0


@pytest.mark.slow
def test_a_million_decodes_are_numbers(texts: list[str]) -> None:
    made, failed = count_invalid(texts, 1_000_000, 2_000)
    assert made >= 1_000_000
    assert failed == 0


def test_the_count_can_fail() -> None:
    """What the count must catch: a value that is no number, and one that its format cannot write."""
    weights = np.full((1, 1, 2), 0.5)
    assert invalid(Outcomes(np.array([[[np.nan, 0.5]]]), weights), FloatFormat(4), complete=False) == 1
    assert invalid(Outcomes(np.array([[[1.23456, 1.234]]]), weights), FloatFormat(4), complete=True) == 1


def test_logits_outside_the_grammar_are_ignored(texts: list[str]) -> None:
    """An output layer that wants a forbidden token at each step does not get it, with known values or without."""
    network, memory, number_format = next(networks(texts))
    network.output.bias.data[10:] = 1e4  # signs and exponents, where fractions have digits only
    assert number_format.steps[0] == tuple(range(10)) != tuple(range(len(ALPHABET)))
    with torch.inference_mode():
        tokens = torch.from_numpy(number_format.encode(np.full(GRAPHS, 0.25)))[:, None]
        for given in None, remember_given(network, memory, [0], tokens):
            drawn = sample(network, memory, [1], number_format, 50, torch.Generator().manual_seed(0), given)
            assert ((drawn.values > 0) & (drawn.values < 1)).all()
            exact = expand(network, memory, [1], number_format, (10, 100), given)
            assert ((exact.values > 0) & (exact.values < 1)).all()


def test_no_prefix_is_dropped_before_it_stands_for_a_number(texts: list[str]) -> None:
    """Chances are those of the decoder's own first tokens, however few beams are kept."""
    reader = WiredReader.learn(texts, TINY, vocabulary=300)
    torch.manual_seed(0)
    network, number_format = RLMNetwork(TINY, reader.encoder(TINY), METRICS, 6).eval(), FloatFormat(3)
    memory = network.memory(collate(reader.encode(texts, context=TINY.context)))
    with torch.inference_mode():
        logits = _Hypotheses(network, memory, None).advance(network.embed(torch.zeros(GRAPHS, 1).long(), None, 0))
        exact = expand(network, memory, [0], number_format, (1, 1))
    minus = logits[:, 0, list(number_format.steps[0])].softmax(-1)[:, 1]
    negative = (exact.weights * (exact.values < 0)).sum(-1)[:, 0]
    np.testing.assert_allclose(negative, minus, atol=1e-5)


def test_points_of_a_distribution() -> None:
    weights = np.array([[[0.3, 0.45, 0.25]]])
    outcomes = Outcomes(np.array([[[90.0, 91.0, 9e9]]]), weights)
    assert 90 < outcomes.point("median").item() == outcomes.quantiles((0.5,)).item() < 92
    assert outcomes.point("mean").item() == outcomes.mean().item() > 1e9
    assert outcomes.point("mean", "median").item() == outcomes.point("median").item()
    assert outcomes.point("median", "mean").item() == outcomes.mean().item()


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_quantiles_interpolate_between_outcomes(seed: int, outcomes: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, 2, outcomes))
    weights = rng.random(values.shape) * (rng.random(values.shape) > 0.3) + 1e-9  # many outcomes weigh next to nothing
    weights /= weights.sum(-1, keepdims=True)
    levels = (0.05, 0.5, 0.95)
    found = Outcomes(values, weights).quantiles(levels)
    for row, column in np.ndindex(3, 2):
        order = np.argsort(values[row, column])
        share = weights[row, column][order]
        expected = np.interp(levels, np.cumsum(share) - share / 2, values[row, column][order])
        np.testing.assert_allclose(found[row, column], expected, atol=1e-9)
