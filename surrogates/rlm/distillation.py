"""Labels carried further: several teachers say what the labels of fresh networks may be, and the model learns those.

Fresh networks of a search space cost nothing, and whoever learned from the labels has a view of them: the model itself,
the same model trained more calmly, and Gaussian processes on what can be counted of a network or is read off by a
pretrained one. They err differently. Together, each as far as it can be trusted, they name the labels of some
thousand fresh networks, which the model learns beside the true ones: knowledge distillation (Hinton et al., arXiv
1503.02531) from an ensemble that the student is part of. What is shipped is one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import kendalltau

from search_spaces.errors import UsageError
from surrogates.gaussian_process import LEAST_NOISE, GaussianProcess, left_out, normal_scores, refuse_noise
from surrogates.monotone import MonotoneMap
from surrogates.rlm.calibration import level_and_slope
from surrogates.rlm.config import TrainingConfig

#: Labels that a process takes; its cost grows with the cube of their number.
MOST = 2048
#: Labels that tell how far to trust it, each guessed without itself.
JUDGED = 64
#: A teacher is followed by the exponential of this times the Kendall tau of labels set aside and what it says of them.
SHARPNESS = 20.0


@dataclass(frozen=True)
class TeachingConfig:
    """Who teaches the model after the labels, and how it learns.

    Attributes:
        pool: Fresh networks of the space to learn pseudo-labels of; 0 for none. Needs ``Networks``, whose space can be
            asked for more.
        trust_folds: Parts of the labels that say in turn how far each teacher is trusted, at the price of a short fit a
            part for each that is a model; they say, too, how far apart values lie and how wide intervals must be
            (``surrogates.rlm.calibration``), and pseudo-labels of metrics with labels enough to tell are learned on the
            scale of these. 0 asks of processes alone what they say of each label without it, and follows them by the
            square of tau, models alike for the rest: a handful of labels is too little to part with.
        trust_epochs: Share of the epochs that such a fit takes: whom to follow shows early.
        stacked: Whether teachers are followed in the shares by which their mean orders best what was set aside
            (stacking, Wolpert, Neural Networks 1992), not each by its own tau: who knows almost all that the others
            know is then followed almost alone. Needs ``trust_folds``, and labels enough to tell.
        shrinks: Further values of ``StartConfig.shrink`` to try without each part, at the price of as many short fits
            again; the one whose models order what was set aside best is taken. How much of what was pretrained helps is
            up to the space. Needs ``trust_folds``.
        genes: Whether processes read the genes of networks, too, by which a space knows them: what is where, of which
            counts say nothing.
        shaped: Whether processes read how often each operation occurs at each of its shapes, too
            (``surrogates.shaped_operations``), by which latencies add up, and which stage has which blocks.
        least_noise: Least variance of noise that processes consider, of labels of variance 1. Latencies that are looked
            up and added have none.
        leave_one_out: Whether processes are asked for each label from all others, not without a whole part, which costs
            them nothing: where labels are few beside what there is to learn, a part less is too few. Models still do
            without a part. Needs ``trust_folds``.
        calm: Whether the model trained without a ranking loss teaches, too. That loss learns a smooth metric to the
            last place, such as a latency that adds up over blocks; of a noisy one it may learn the noise by heart.
        passes: Epochs over the pool, in batches of 64.
        pool_rate: Learning rate meanwhile.
        pool_smoothing: ``TrainingConfig.smoothing`` meanwhile.
        pool_ranking: ``TrainingConfig.ranking`` meanwhile.
    """

    pool: int = 0
    trust_folds: int = 0
    trust_epochs: float = 1 / 3
    stacked: bool = False
    shrinks: tuple[float, ...] = ()
    genes: bool = False
    shaped: bool = False
    least_noise: float = LEAST_NOISE
    leave_one_out: bool = False
    calm: bool = False
    passes: int = 4
    pool_rate: float = 1e-3
    pool_smoothing: float = 0.1
    pool_ranking: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shrinks", tuple(self.shrinks))  # JSON makes it a list
        if self.pool < 0 or self.passes < 1:
            raise UsageError(f"pool is {self.pool} and passes {self.passes}; the least are 0 and 1")
        if self.trust_folds < 0 or self.trust_folds == 1:
            raise UsageError(f"trust_folds is {self.trust_folds}; it must be 0, or 2 at least")
        if not 0 < self.trust_epochs <= 1:
            raise UsageError(f"trust_epochs is {self.trust_epochs}; it must lie in (0, 1]")
        refuse_noise(self.least_noise)
        if self.stacked and not self.trust_folds:
            raise UsageError(
                "stacked is True; labels have to be set aside to find the shares, by trust_folds; or set stacked=False"
            )
        if self.leave_one_out and not self.trust_folds:
            raise UsageError(
                "leave_one_out is True; models have to be asked for labels set aside, too, by trust_folds; or set "
                "leave_one_out=False"
            )
        if self.shrinks and not self.trust_folds:
            raise UsageError(f"shrinks is {self.shrinks}; labels have to be set aside to choose one, by trust_folds")
        if not all(0 < value <= 1 for value in self.shrinks):
            raise UsageError(f"shrinks is {self.shrinks}; each must lie in (0, 1]")

    def of_the_pool(self, training: TrainingConfig) -> TrainingConfig:
        """How pseudo-labels are learned where labels are learned by ``training``."""
        return replace(
            training,
            epochs=self.passes,
            batch_size=64,
            learning_rate=self.pool_rate,
            smoothing=self.pool_smoothing,
            ranking=self.pool_ranking,
            orders=1,
            anchor=0.0,
        )


class Processes:
    """Gaussian processes on numbers that are known of ``n`` networks; they learn from the labels of some of these.

    Args:
        sets: Sets of numbers, ``(n, m)`` each. A process on each of them guesses, and counts by how likely it makes the
            labels. Numbers that are equal for all networks are left out.
        parts: Further sets, ``(n, g)`` each, of what networks are made of: genes, one-hot, or how often each operation
            occurs. There are also processes on a set and on one of these; the more parts two networks share, the more
            alike they are.
        least_noise: Least variance of noise that is considered, of labels of variance 1.
    """

    def __init__(
        self, sets: Sequence[np.ndarray], parts: Sequence[np.ndarray] = (), least_noise: float = LEAST_NOISE
    ) -> None:
        self._least_noise = least_noise
        self._features = [
            *(normal_scores(_varied(numbers)) for numbers in sets),
            *map(_in_one_unit, map(_varied, parts)),
        ]
        self._common = range(len(sets), len(sets) + len(parts))

    def guess(self, values: np.ndarray) -> np.ndarray:
        """Expected normal scores of all networks, ``(n,)``; zeros where fewer than three labels are known.

        Args:
            values: Labels ``(n,)``, NaN where not measured; the most recent ``MOST`` are used.

        Raises:
            UsageError: No set, or nothing in any that differs.
        """
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        return self._guess(values, known, np.arange(len(values))) if len(known) > 2 else np.zeros(len(values))

    def without(self, values: np.ndarray, groups: np.ndarray, *, refitted: bool) -> np.ndarray:
        """What is expected of each group from the labels of all others, normal scores ``(n,)``.

        NaN where no other group has a label, if refitted, and else where a network has none itself.

        Args:
            values: As for ``guess``.
            groups: Networks that are left out together, ``(n,)``: equal numbers.
            refitted: Whether settings are chosen anew without each group, which takes a fit a group, or once for all,
                by all labels.
        """
        found, measured = np.full(len(values), np.nan), np.isfinite(values)
        if refitted:
            for group in np.unique(groups):
                held = groups == group
                if (measured & ~held).any():
                    found[held] = self.guess(np.where(held, np.nan, values))[held]
            return found
        known = np.flatnonzero(measured)[-MOST:]
        if not 2 < measured.sum() <= MOST:  # some labels are not learned from: too few, or not among the most recent
            found[measured] = self.guess(values)[measured]
        if len(known) > 2:
            features = [numbers[known] for numbers in self._features]
            found[known] = left_out(features, values[known], groups[known], self._common, self._least_noise)
        return found

    def trust(self, values: np.ndarray) -> float:
        """Square of Kendall's tau between labels and what is said of each without it, in place of a share of variance.

        0 where tau is negative, or fewer than three labels are known.

        Args:
            values: As for ``guess``; ``JUDGED`` of them are guessed.
        """
        known = np.flatnonzero(np.isfinite(values))[-MOST:]
        if len(known) < 3:
            return 0.0
        judged = known[-JUDGED:]
        without = [float(self._guess(values, np.setdiff1d(known, row), np.array([row]))[0]) for row in judged]
        return max(0.0, tau(values[judged], np.array(without))) ** 2

    def _guess(self, values: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        features = [numbers[known] for numbers in self._features]
        process = GaussianProcess.fit(features, values[known], self._common, self._least_noise)
        return np.asarray(process.predict([numbers[wanted] for numbers in self._features]))


def _in_one_unit(numbers: np.ndarray) -> np.ndarray:
    """Numbers around 0 in units of a deviation that is the same for all columns."""
    deviation = np.sqrt(numbers.var(axis=0).sum() / max(1, numbers.shape[1]))
    return np.asarray((numbers - numbers.mean(axis=0)) / (deviation or 1.0))


def _varied(numbers: np.ndarray) -> np.ndarray:
    """The columns that are not the same everywhere."""
    return np.asarray(numbers[:, np.ptp(numbers, axis=0) > 0])


def tau(truth: np.ndarray, said: np.ndarray) -> float:
    """Kendall's tau over the known of ``truth``; 0 where nothing can be ordered."""
    known = np.isfinite(truth)
    return float(np.nan_to_num(kendalltau(truth[known], said[known]).statistic)) if known.sum() > 1 else 0.0


def tau_by_lot(truth: np.ndarray, said: np.ndarray) -> float:
    """Kendall's tau as it would be, on average, if equal values of ``said`` were told apart by lot.

    Tau-b (Kendall, Biometrika 1945) charges less for a tie than for an error: a teacher to whom many networks look
    alike would be followed for that.
    """
    known = np.isfinite(truth)
    return tau(truth, said) * (1 - tied(said[known])) ** 0.5


def tied(values: np.ndarray) -> float:
    """Share of all pairs of ``values`` that are equal; 0 where there is no pair."""
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / max(1, len(values) * (len(values) - 1)))


def shares(taus: np.ndarray) -> np.ndarray:
    """How far each of ``t`` teachers is followed, by metric: ``(t, m)``, columns that sum to 1, of taus ``(t, m)``."""
    return np.asarray(softmax(SHARPNESS * taus, axis=0))


def pseudo_labels(
    predicted: Sequence[pd.DataFrame],
    guessed: np.ndarray,
    trust: np.ndarray,
    labels: pd.DataFrame,
    places: Mapping[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """What the labels of ``k`` networks may be, to teachers that do not know them: one row each, as ``labels`` has it.

    All views are averaged as normal scores, a guess after it was brought to the mean and deviation of what the models
    predict. Beyond the range of the labels it goes on straight.

    Args:
        predicted: What each model predicts that was fitted to ``labels``, or others of them; ``k`` rows.
        guessed: What processes guess, normal scores ``(k, m)``.
        trust: How far each model is followed, then the processes: ``(len(predicted) + 1, m)``, columns that sum to 1;
            a model at least is followed, or else all of them alike.
        labels: ``n`` rows, NaN where not measured; of every column at least one is.
        places: By metric, what is added to the average and by what it is multiplied before (``places_of``).
    """
    named = {}
    for index, name in enumerate(map(str, labels.columns)):
        unit = _unit(labels.iloc[:, index])
        seen = _seen(unit, [frame[name] for frame in predicted], trust[:-1, index])
        processes, guess = trust[-1, index], guessed[:, index] - guessed[:, index].mean()
        guess = guess / (guess.std() or 1.0) * seen.std() + seen.mean()
        shift, slope = (places or {}).get(name, (0.0, 1.0))
        named[name] = unit(shift + slope * ((1 - processes) * seen + processes * guess))
    return pd.DataFrame(named)


def places_of(
    own: Sequence[pd.DataFrame], trust: np.ndarray, labels: pd.DataFrame, told: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Where normal scores of models have to be and how far apart, by metric, to be expectations: shift and slope.

    A value is predicted at its expected quantile, which can be at neither end, and so far inside.

    Args:
        own: What each model predicts of the ``n`` networks that it learned.
        trust: As for ``pseudo_labels``.
        labels: Their labels.
        told: By metric, the correlation of labels and what is said of them by who did not learn them; other metrics
            have no place.
    """
    places = {}
    for index, name in enumerate(map(str, labels.columns)):
        if name in told:
            known, unit = labels.iloc[:, index].notna().to_numpy(), _unit(labels.iloc[:, index])
            truth = np.asarray(np.interp(labels.iloc[known, index], unit.values, unit.scores))
            seen = _seen(unit, [frame.loc[known, name] for frame in own], trust[:-1, index])
            places[name] = level_and_slope(truth, seen, told[name])
    return places


def _unit(labels: pd.Series) -> MonotoneMap:
    """From normal scores to the unit of a metric."""
    values = labels.dropna().to_numpy(dtype=float)
    return MonotoneMap.fit(normal_scores(values), values)


def _seen(unit: MonotoneMap, predicted: Sequence[pd.Series], shares: np.ndarray) -> np.ndarray:
    """The average of the models' predictions as normal scores."""
    scores = [np.interp(values, unit.values, unit.scores) for values in predicted]
    return np.asarray(np.average(scores, axis=0, weights=shares if shares.any() else None))
