"""How wide intervals are: temperatures by validation graphs, spreads by labels that are set aside in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from nasrlm.metrics import interval_coverage
from search_spaces.errors import UsageError
from search_spaces.networks import Networks
from surrogates.rlm import RLM, CalibrationConfig, ModelConfig, TrainingConfig
from surrogates.rlm.calibration import conformal, level_and_slope, out_of_fold_spread, stretch, unlearned
from surrogates.rlm.config import ReadingConfig
from surrogates.rlm.labelled import functions_of

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
#: In float32: bfloat16 is another arithmetic on every CPU, and sixty networks tell coverages no finer.
QUICK = TrainingConfig(epochs=6, batch_size=16, learning_rate=1e-2, ema=0.9, threads=1, precision="float32")


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{**vars(QUICK), **changes})


def test_calibration_widens_what_is_too_sure(cells: tuple[list[str], pd.DataFrame], tmp_path: Path) -> None:
    """Noisy labels learned by heart: the 80 % intervals of new graphs hold far less than 80 % until calibrated."""
    texts, labels = cells
    training = config(epochs=60, smoothing=0.0, learning_rate=2e-2, evaluate_every=60)
    validation = (texts[50:100], labels[["noisy"]][50:100])
    rlm = RLM(TINY, training).fit(texts[:50], labels[["noisy"]][:50], validation=validation)
    assert rlm.temperatures[0] > 1.2
    truth = labels["noisy"][100:].to_numpy()

    def coverage() -> float:
        prediction = rlm.predict(texts[100:])
        return interval_coverage(truth, prediction.quantiles[:, 0], prediction.levels)[0.8]

    rlm.save_pretrained(tmp_path)
    assert RLM.from_pretrained(tmp_path).temperatures == rlm.temperatures
    calibrated = coverage()
    rlm.temperatures = (1.0,)
    plain = coverage()
    assert plain < 0.7
    assert abs(calibrated - 0.8) < abs(plain - 0.8) - 0.05


def test_labels_set_aside_in_turn_tell_how_wide_intervals_must_be(
    cells: tuple[list[str], pd.DataFrame], tmp_path: Path
) -> None:
    """The same without labels to spare; the predictions stay as they are."""
    texts, labels = cells
    training = config(epochs=60, smoothing=0.0, learning_rate=2e-2)
    plain = RLM(TINY, training).fit(texts[:60], labels[["noisy"]][:60])
    spread = RLM(TINY, training, calibration=CalibrationConfig(folds=5)).fit(texts[:60], labels[["noisy"]][:60])
    assert plain.spreads == (1.0,) and spread.spreads[0] > 1.2
    truth, found = labels["noisy"][100:].to_numpy(), {}
    for name, rlm in {"plain": plain, "spread": spread}.items():
        found[name] = rlm.predict(texts[100:])
        share = interval_coverage(truth, found[name].quantiles[:, 0], found[name].levels)[0.8]
        assert share < 0.7 if name == "plain" else 0.75 < share < 0.96
    np.testing.assert_array_equal(found["plain"].mean, found["spread"].mean)
    assert (found["spread"].std >= found["plain"].std).all()
    spread.save_pretrained(tmp_path)
    again = RLM.from_pretrained(tmp_path)
    assert again.spreads == spread.spreads
    np.testing.assert_array_equal(again.predict(texts[100:]).quantiles, found["spread"].quantiles)
    again.finetune(texts[:40], labels[["noisy"]][:40], training=config(epochs=1))
    assert again.spreads == (1.0,)  # other weights


def test_labels_of_known_functions_do_not_make_intervals_narrow(cells: tuple[list[str], pd.DataFrame]) -> None:
    """Four in five of these labels have a twin, most of them among those that a part is predicted by."""
    texts, labels = cells
    rows = [*range(60), *range(40)]
    training = config(epochs=60, smoothing=0.0, learning_rate=2e-2)
    rlm = RLM(TINY, training, calibration=CalibrationConfig(folds=5))
    rlm.fit([texts[row] for row in rows], labels[["noisy"]].iloc[rows].reset_index(drop=True))
    prediction = rlm.predict(texts[100:])
    share = interval_coverage(labels["noisy"][100:].to_numpy(), prediction.quantiles[:, 0], prediction.levels)[0.8]
    assert 0.7 < share < 0.96
    twins = rlm.fit([texts[0]] * 20, pd.DataFrame({"noisy": np.arange(20.0)}))
    assert twins.spreads == (1.0,)  # nothing is known of other networks


def test_functionally_identical_networks_are_one() -> None:
    space = search_spaces.get("nasbench201")
    cells = [
        f"|nor_conv_3x3~0|+|{dead}~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"
        for dead in ("none", "nor_conv_1x1")
    ]
    twins = Networks(space, [*map(space.parse, cells), space.sample(np.random.default_rng(0))])
    for graphs in (twins, [*twins]):
        first, second, other = functions_of(graphs, ReadingConfig(dead="drop"))
        assert first == second != other
    assert len({*functions_of([*twins], ReadingConfig())}) == 3  # a device runs what is dead, too


def test_spreads_are_quantiles_of_what_was_needed() -> None:
    intervals = np.array([[0.5, 0.4, 0.7]] * 4)
    np.testing.assert_allclose(stretch(np.array([0.5, 0.9, 0.2, 0.45]), intervals), [0.0, 2.0, 3.0, 0.5])
    assert conformal(np.arange(1.0, 10.0), 0.8) == 8.0  # of ten, with the one to come
    assert conformal(np.arange(1.0, 4.0), 0.8) == 3.0
    assert conformal(np.array([1.0, 2.0, np.inf, np.inf]), 0.8) == 2.0  # more than that holds no more
    assert conformal(np.array([np.inf]), 0.8) == 1.0


def intervals(median: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Median, lower and upper end, ``(k, 3)``, by distances ``(k, 2)`` or ``(2,)``."""
    below, above = np.broadcast_to(sides, (len(median), 2)).T
    return np.stack([median, median - below, median + above], axis=1)


NO_ECHO = np.zeros(1)


@given(st.floats(-5, 5), st.floats(0.1, 10), st.floats(0.1, 10), st.integers(0, 99))
def test_errors_of_others_at_any_level_and_in_any_unit(level: float, deviation: float, unit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, part = rng.normal(size=40), np.arange(40) % 4
    sides = rng.uniform(0.1, 0.3, size=(7, 2))
    predicted = truth + rng.normal(scale=0.5, size=40)
    own, fresh = intervals(truth, rng.uniform(1, 2, size=(40, 2))), intervals(rng.normal(size=7), sides)

    def spread(predicted: np.ndarray, own: np.ndarray, fresh: np.ndarray) -> float:
        return out_of_fold_spread(truth, predicted, own, part, fresh=fresh, echo=NO_ECHO, unlearned=1.0, level=0.8)

    found = spread(predicted, own, fresh)
    np.testing.assert_allclose(spread(level + deviation * predicted, own, fresh), found, rtol=1e-6)
    wider = own[:, [0]] + unit * (own - own[:, [0]])
    np.testing.assert_allclose(spread(predicted, wider, fresh), found, rtol=1e-6)  # where they are wide is what counts
    np.testing.assert_allclose(spread(predicted, own, intervals(fresh[:, 0], sides / unit)), found * unit, rtol=1e-6)
    assert spread(truth, own, fresh) < 1e-6 < found  # they knew


@pytest.mark.parametrize(("count", "folds"), [(64, 2), (64, 4), (128, 4), (128, 16)])
@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_errors_of_others_tell_how_wide_to_be(count: int, folds: int, apart: float) -> None:
    """All err twice as much of every second network, the model also by ``apart`` from them, and it knows where."""
    covered = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        total, known = count + 500, slice(count)
        errors, echo = rng.normal(size=(2, total)) * np.resize([0.3, 0.6], total), apart * rng.normal(size=total)
        truth = rng.normal(size=total)
        width = 0.05 * np.resize([1.0, 2.0], total)
        teachers, model = truth + errors[0], truth + errors[1] + echo
        own = intervals(truth + 0.2 * errors[1], width[:, None])[known]  # it knows the labels
        part = rng.permutation(count) * folds // count
        fresh = intervals(model, width[:, None])[count:]
        spread = out_of_fold_spread(
            truth[known], teachers[known], own, part, fresh=fresh, echo=echo[count:], unlearned=1.0, level=0.8
        )
        covered.append(np.mean(np.abs(truth - model)[count:] <= spread * width[count:]))
    assert 0.72 <= np.mean(covered) <= 0.86  # level and deviation, learned by heart, take a little off a small part


@pytest.mark.parametrize("by_heart", [0.6, 1.0])
def test_what_is_known_by_heart_does_not_widen_intervals(by_heart: float) -> None:
    rng, count = np.random.default_rng(0), 2000
    told, noise = rng.normal(size=count), 1.7 * rng.normal(size=count)
    truth, part, other = told + noise, np.arange(count) % 2, told + 0.1 * rng.normal(size=count)

    def spread(own: np.ndarray, unlearned: float) -> float:
        own, fresh = intervals(own, np.ones(2)), intervals(told, np.ones(2))
        return out_of_fold_spread(truth, other, own, part, fresh=fresh, echo=NO_ECHO, unlearned=unlearned, level=0.8)

    own = told + by_heart * noise
    share = unlearned(truth, own, float(np.corrcoef(truth, told)[0, 1]))
    assert share == pytest.approx(told.std() / own.std(), rel=0.05)
    assert spread(own, share) == pytest.approx(spread(told, 1.0), rel=0.03)
    assert spread(own, 1.0) > spread(own, share) + 0.02


def test_silence_is_as_far_off_as_labels_are_apart() -> None:
    truth, nothing = np.array([-1.0, 1.0] * 10), np.zeros(20)
    own, fresh = intervals(truth, np.ones(2)), intervals(np.zeros(1), np.array([0.5, 0.25]))
    halves, tenths = np.arange(20) // 10, np.arange(20) // 2

    def spread(own: np.ndarray, part: np.ndarray) -> float:
        return out_of_fold_spread(truth, nothing, own, part, fresh=fresh, echo=NO_ECHO, unlearned=1.0, level=0.9)

    assert spread(own, halves) == pytest.approx(4.0)
    assert spread(own, tenths) == 1.0  # two have no level
    own[3, 2] = 1e9  # of raw numbers there are such
    assert 4.0 < spread(own, halves) < 9.0


@pytest.mark.parametrize("noise", [0.2, 0.6, 1.2])
@pytest.mark.parametrize("by_heart", [0.0, 0.5])
def test_numbers_are_brought_to_where_expectations_are(noise: float, by_heart: float) -> None:
    """A model that draws everything together, and knows a part of the noise of its labels."""
    rng, count = np.random.default_rng(0), 4000
    told = rng.normal(size=count)
    truth = 3 + 2 * (told + noise * rng.normal(size=count))
    error = truth - (3 + 2 * told)
    own = 0.4 * (3 + 2 * told + by_heart * error) - 7
    shift, slope = level_and_slope(truth, own, float(np.corrcoef(truth, told)[0, 1]))
    assert slope == pytest.approx(1 / 0.4, rel=0.05)
    fresh = 0.4 * (3 + 2 * told) - 7
    assert np.abs(shift + slope * fresh - (3 + 2 * told)).mean() <= 0.1


def test_nothing_is_moved_where_nothing_varies() -> None:
    rising, flat = np.arange(20.0), np.ones(20)
    assert level_and_slope(flat, rising, 0.9) == level_and_slope(rising, flat, 0.9) == (0.0, 1.0)
    assert 0 < level_and_slope(rising, -rising, -0.5)[1] < 1  # the order stays, whatever the labels tell


def test_each_metric_gets_a_spread_of_its_own(cells: tuple[list[str], pd.DataFrame]) -> None:
    """Models, missing labels, raw numbers, columns without names; what is kept keeps its spread."""
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(5)
    nets = Networks(space, [space.sample(rng) for _ in range(60)])
    labels = cells[1][["noisy", "macs"]][:60].set_axis([0, 1], axis=1)
    scales = {"0": "quantile", "1": "raw"}
    training = config(epochs=10, smoothing=0.0)
    rlm = RLM(TINY, training, calibration=CalibrationConfig(folds=2), value_scale=scales).fit(nets, labels)
    assert rlm.metrics == ("0", "1") and 1.0 not in rlm.spreads and rlm.spreads[0] != rlm.spreads[1]
    kept = rlm.spreads[1]
    assert rlm.keep(["1"]).spreads == (kept,)
    with pytest.raises(UsageError, match="goes on from weights"):
        rlm.finetune(nets, labels[[1]])


def test_calibration_that_cannot_be_is_refused(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    for wrong in ({"folds": 1}, {"folds": -2}, {"level": 1.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            CalibrationConfig(**wrong)  # type: ignore[arg-type]
    rlm = RLM(TINY, config(epochs=1), calibration=CalibrationConfig(folds=4))
    with pytest.raises(UsageError, match="not both"):
        rlm.fit(texts[:20], labels[["params"]][:20], validation=(texts[20:40], labels[["params"]][20:40]))
    rlm.fit(texts[:10], labels[["params"]][:10])  # too few labels to tell
    assert rlm.spreads == (1.0,)
    rlm.fit(texts[:20], labels[["params"]][:20])
    assert rlm.spreads != (1.0,)


def test_without_validation_nothing_is_calibrated(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    rlm = RLM(TINY, config(epochs=1)).fit(texts[:16], labels[["params", "macs"]][:16])
    assert rlm.temperatures == (1.0, 1.0)
    assert rlm.history["validation"] == []
