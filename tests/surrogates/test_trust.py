"""How far teachers are followed, by labels that were kept from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.rlm.distillation import pseudo_labels, tau_by_lot
from surrogates.rlm.scales import Scale
from surrogates.rlm.trust import OutOfFold

COUNT, PARTS = 90, 3


def asked(truth: np.ndarray, models: list[np.ndarray], processes: np.ndarray, *, stacked: bool = True) -> OutOfFold:
    """Views of one metric; every third label was set aside together."""
    labels = pd.DataFrame({"score": truth})
    views, rows = np.stack([*models, processes])[:, :, None], np.arange(len(truth))
    return OutOfFold(labels, rows % PARTS, views, rows, rows >= 0, stacked)


def tau_of(found: OutOfFold, shares: np.ndarray) -> float:
    """Kendall tau of the mean of all views, ties by lot, the mean over what was set aside."""
    taus = []
    for part in np.unique(found.part):
        rows = found.part == part
        models = [pd.DataFrame({"score": view[rows, 0]}) for view in found.predicted[:-1]]
        mean = pseudo_labels(models, found.predicted[-1, rows], shares[:, None], found.labels)
        taus.append(tau_by_lot(found.labels["score"].to_numpy()[rows], mean["score"].to_numpy()))
    return float(np.mean(taus))


def test_who_adds_only_noise_is_not_followed() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=600)
    good = truth + 0.2 * rng.normal(size=600)
    worse = good + 0.2 * rng.normal(size=600)
    followed = {stacked: asked(truth, [worse], good, stacked=stacked).shares["score"] for stacked in (False, True)}
    assert followed[True][1] >= 0.9 > followed[False][1] > 0.5


def test_who_errs_otherwise_is_followed_though_he_orders_worse() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=COUNT)
    views = [truth + sigma * rng.normal(size=COUNT) for sigma in (0.3, 0.45, 0.45)]
    shares = asked(truth, views[:2], views[2]).shares["score"].to_numpy()
    assert shares.min() >= 0.1 and shares.sum() == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 2), st.floats(0.05, 2))
def test_together_they_order_as_well_as_the_best_of_them(seed: int, one: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=30)
    found = asked(truth, [truth + one * rng.normal(size=30)], truth + other * rng.normal(size=30))
    shares = found.shares["score"].to_numpy()
    assert shares.sum() == pytest.approx(1) and (shares >= 0).all()
    alone = [tau_of(found, np.eye(2)[teacher]) for teacher in (0, 1)]
    assert tau_of(found, shares) >= max(*alone, tau_of(found, np.full(2, 0.5))) - 1e-12


def test_labels_that_cannot_tell_follow_all_alike() -> None:
    rng = np.random.default_rng(2)
    views = list(rng.normal(size=(3, COUNT)))
    found = asked(np.ones(COUNT), views[:2], views[2])
    np.testing.assert_allclose(found.shares["score"], 1 / 3)


def test_networks_that_read_alike_count_once() -> None:
    """Most networks are copies of a few, which a model orders well, and all others worse than processes do."""
    rng, count, kinds = np.random.default_rng(4), 5 * COUNT, 3 * PARTS  # three kinds in each part
    rows = np.arange(count)
    copies, kind = rows >= COUNT, rows % kinds
    truth = np.where(copies, rng.normal(size=kinds)[kind], rng.normal(size=count))
    model, processes = (truth + np.where(copies == well, 0.1, 1.5) * rng.normal(size=count) for well in (True, False))
    found = asked(truth, [model], processes)
    once = replace(found, alike=np.where(copies, count + kind, found.alike))
    assert once.shares["score"][0] <= 0.3 < 0.7 <= found.shares["score"][0]


def test_what_a_teacher_cannot_tell_apart_does_not_speak_for_it() -> None:
    """Processes that see what the model sees, but coarsely."""
    rng, followed = np.random.default_rng(5), []
    for _ in range(10):
        truth = rng.normal(size=COUNT)
        model = truth + 0.5 * rng.normal(size=COUNT)
        followed.append(asked(truth, [model], np.round(model)).shares["score"][1])
    assert np.mean(followed) <= 0.6


def test_a_part_without_an_answer_does_not_count() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=COUNT)
    model, processes = truth + 0.1 * rng.normal(size=COUNT), rng.normal(size=COUNT)
    model[::PARTS] = np.nan
    assert asked(truth, [model], processes).shares["score"][0] >= 0.9


def test_gaps_in_labels_do_not_count() -> None:
    """What processes say of networks without a label, however far off, does not change how they are mixed in."""
    rng = np.random.default_rng(6)
    truth = rng.normal(size=COUNT)
    model, processes = (truth + sigma * rng.normal(size=COUNT) for sigma in (0.3, 0.5))
    known = rng.random(COUNT) < 0.7
    gaps = asked(np.where(known, truth, np.nan), [model], np.where(known, processes, 100.0))
    alone = asked(truth[known], [model[known]], processes[known])
    alone = replace(alone, part=gaps.part[known])
    np.testing.assert_array_equal(gaps.shares["score"], alone.shares["score"])


def test_of_several_the_most_even_shares() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(size=COUNT)
    model = truth + 0.2 * rng.normal(size=COUNT)
    shares = asked(truth, [model, model], rng.normal(size=COUNT)).shares["score"]
    assert shares[2] <= 0.1 and abs(shares[0] - shares[1]) <= 0.1


def test_what_labels_tell_all_teachers_together() -> None:
    rng = np.random.default_rng(8)
    truth = rng.normal(size=COUNT)
    model, processes = (truth + 0.3 * rng.normal(size=COUNT) for _ in range(2))
    found, scale = asked(np.exp(truth), [np.exp(model)], processes), Scale.fit("quantile", np.exp(truth), digits=3)
    alone = asked(np.exp(truth), [np.exp(model)], rng.normal(size=COUNT))
    told = found.told("score", scale)
    assert told is not None
    assert told > np.corrcoef(scale.forward(np.exp(model)), scale.forward(np.exp(truth)))[0, 1] > 0.9
    assert alone.told("score", scale) == pytest.approx(told, abs=0.06)  # whom labels contradict is not followed
    for known, enough in ((15, False), (18, True)):
        few = replace(found, labels=found.labels.where(np.arange(COUNT)[:, None] < known))
        assert (replace(few, part=np.arange(COUNT) // 9).told("score", scale) is not None) == enough
        assert replace(few, part=np.arange(COUNT) // 5).told("score", scale) is None  # five do not tell


def test_labels_of_common_functions_do_not_say_how_wide_intervals_are() -> None:
    """Half the labels are of a function that others have, too, and are told exactly."""
    rng = np.random.default_rng(9)
    truth, common = rng.normal(size=COUNT), np.arange(COUNT) % 2 == 0
    view = truth + np.where(common, 0.0, 0.5) * rng.normal(size=COUNT)
    scale = Scale.fit("quantile", truth, digits=3)
    found = asked(truth, [view], view)
    own = scale.forward(truth)[:, None] + np.array([0.0, -0.05, 0.05])

    def spread(one: OutOfFold, echo: np.ndarray) -> float:
        return one.spread("score", scale, own, own, echo, unlearned=1.0, level=0.8)

    silent = np.zeros(COUNT)
    lone = replace(found, alone=~common)
    assert spread(lone, silent) > 1.3 * spread(found, silent)
    assert spread(replace(found, alone=np.arange(COUNT) < 20), silent) == spread(found, silent)  # six a part do not do
    assert spread(found, scale.spread * rng.normal(size=COUNT)) > spread(found, silent) + 1  # nor teachers alone


@pytest.mark.parametrize("stacked", [False, True])
def test_a_handful_of_labels_does_not_choose_whom_to_follow(stacked: bool) -> None:
    rng = np.random.default_rng(10)
    truth = rng.normal(size=COUNT)
    found = asked(truth, [truth], rng.normal(size=COUNT), stacked=stacked)
    labels = pd.DataFrame({"score": truth, "rare": np.where(np.arange(COUNT) < 15, truth, np.nan)})
    both = replace(found, labels=labels, predicted=np.repeat(found.predicted, 2, axis=2)).shares
    assert both["rare"].tolist() == [0.5, 0.5] and both["score"][0] > 0.9
