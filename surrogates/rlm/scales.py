"""Value scales: how a metric's values are prepared for digits and brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from search_spaces.errors import UsageError
from surrogates.numbers import FloatFormat, FractionFormat, NumberFormat

#: Kind of a scale where none is named.
USUAL = "quantile"
#: So many distinct labels, or fewer, are all knots of a quantile scale; of more, those that ``TOLERANCE`` needs.
KNOTS = 1024
#: Largest difference of a quantile from that of all labels.
TOLERANCE = 2e-4
#: A scale that is moved bends so far from 0 and 1.
_MARGIN = 0.02


@dataclass(frozen=True)
class Scale:
    """``raw`` writes the values themselves, ``quantile`` their quantile among the training labels.

    Attributes:
        kind: ``raw`` or ``quantile``.
        values: Quantile scale: ascending distinct knots, in the metric's unit.
        quantiles: Quantile scale: quantile of each knot, within (0, 1), which is what is written.
        spread: Standard deviation of the training labels on this scale.
        digits: Digits written.
        read: Quantile scale that was moved: numbers that are taken for the knots, in place of their quantiles.
    """

    kind: str
    values: tuple[float, ...]
    quantiles: tuple[float, ...]
    spread: float
    digits: int
    read: tuple[float, ...] = ()

    @classmethod
    def fit(cls, kind: str, labels: np.ndarray, *, digits: int) -> Scale:
        """The scale of training ``labels`` (NaN ignored).

        Raises:
            UsageError: No label at all, an infinite one, or an unknown kind.
        """
        if np.isinf(labels).any():
            raise UsageError("a label is infinite; give a finite value, or NaN where nothing was measured")
        present = np.sort(np.asarray(labels, dtype=float)[~np.isnan(labels)])
        if not len(present):
            raise UsageError("a metric needs at least one label; drop the column or measure something")
        if kind == "raw":
            return cls(kind, (), (), float(present.std()), digits)
        if kind != "quantile":
            raise UsageError(f"unknown value scale {kind!r}; choose from: raw, quantile")
        values, first, counts = np.unique(present, return_index=True, return_counts=True)
        quantiles = (first + 0.5 * counts) / len(present)
        if len(values) > KNOTS:
            keep = _knots(values, quantiles)
            values, quantiles = values[keep], quantiles[keep]
        return cls(kind, _tuple(values), _tuple(quantiles), 0.29, digits)

    @property
    def format(self) -> NumberFormat:
        """The digits of this scale."""
        return FloatFormat(self.digits) if self.kind == "raw" else FractionFormat(self.digits)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values in the metric's unit to the numbers that are written; NaN stays NaN."""
        if self.kind == "raw":
            return values
        return np.asarray(np.interp(values, self.values, self.quantiles))

    def inverse(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers that a model writes to values in the metric's unit."""
        if self.kind == "raw":
            return numbers
        return np.asarray(np.interp(numbers, self._read, self.values))

    def place(self, values: np.ndarray) -> np.ndarray:
        """The numbers that ``inverse`` takes for values in the metric's unit: those of ``forward`` if never moved."""
        if self.kind == "raw":
            return values
        return np.asarray(np.interp(values, self.values, self._read))

    @property
    def _read(self) -> tuple[float, ...]:
        return self.read or self.quantiles

    def covers(self, values: np.ndarray) -> np.ndarray:
        """Whether each value lies where this scale can go: a quantile scale ends at its training labels."""
        if self.kind == "raw":
            return np.isfinite(values)
        return np.asarray((values >= self.values[0]) & (values <= self.values[-1]))

    def jitter(self, numbers: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Numbers moved by ``noise`` spreads; quantiles are reflected at 0 and 1."""
        moved = numbers + noise * self.spread
        if self.kind == "raw":
            return np.asarray(moved)
        return np.asarray(1 - np.abs(1 - np.abs(moved)))

    def moved(self, shift: float, slope: float) -> Scale:
        """The scale that takes a number ``u`` for what this one takes ``shift + slope * u`` for.

        It is read otherwise and written as before. Where a number would be beyond the ends of this scale, it bends
        before, lest all numbers there stand for the same. Where 0 or 1 stand for less than these ends, labels lie
        beyond them, where only a distribution that is stretched can go. A raw scale writes the values themselves, and
        stays as it is, as does one that has a single value.

        Raises:
            UsageError: ``slope`` is not positive.
        """
        if slope <= 0:
            raise UsageError(f"slope is {slope}; a scale keeps its order, so it must be positive")
        if len(self.values) < 2:
            return self
        lowest, highest = self._read[0], self._read[-1]
        margin = min(_MARGIN, (highest - lowest) / 4)
        meant = np.array([lowest, lowest + margin, highest - margin, highest])
        numbers = (meant - shift) / slope
        numbers[0], numbers[-1] = min(0.0, numbers[0]), max(1.0, numbers[-1])
        levels = np.unique([*self._read, *meant])
        values = self.inverse(levels)
        written, read = self.forward(values), np.interp(levels, meant, numbers)
        return replace(self, values=_tuple(values), quantiles=_tuple(written), read=_tuple(read))

    @property
    def centre(self) -> str:
        """What of a distribution of numbers is predicted: ``mean`` or ``median``.

        The mean of raw values is at the mercy of a small chance of a wrong exponent. Scales are moved by medians, and
        intervals lie about them.
        """
        return "median" if self.kind == "raw" or self.read else "mean"

    @property
    def learned(self) -> Scale:
        """The scale as it was before it was moved."""
        return replace(self, read=())

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint's config."""
        return {
            "kind": self.kind,
            "values": list(self.values),
            "quantiles": list(self.quantiles),
            "spread": self.spread,
            "digits": self.digits,
            **({"read": list(self.read)} if self.read else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scale:
        """The inverse of ``to_json``."""
        values, quantiles, read = tuple(data["values"]), tuple(data["quantiles"]), tuple(data.get("read", ()))
        return cls(data["kind"], values, quantiles, data["spread"], data["digits"], read)


def _tuple(numbers: np.ndarray) -> tuple[float, ...]:
    return tuple(numbers.tolist())


def _knots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices between which straight lines follow ``y(x)`` to ``TOLERANCE`` (Ramer-Douglas-Peucker); ``x`` ascends."""
    kept, open_parts = {0, len(x) - 1}, [(0, len(x) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        part = slice(first, last + 1)
        off = np.abs(np.interp(x[part], x[[first, last]], y[[first, last]]) - y[part])
        worst = first + int(off.argmax())
        if off.max() > TOLERANCE:
            kept.add(worst)
            open_parts += [(first, worst), (worst, last)]
    return np.array(sorted(kept))


def fit_scales(labels: pd.DataFrame, kinds: str | Mapping[str, str], *, digits: int) -> dict[str, Scale]:
    """The scale of every column of ``labels``.

    Args:
        labels: One column a metric; NaN ignored.
        kinds: Kind of all scales, or by metric; ``USUAL`` where not named.
        digits: Digits written.

    Raises:
        UsageError: A metric without labels or with an infinite one, or an unknown kind.
    """
    names = [str(column) for column in labels.columns]
    chosen = {name: kinds if isinstance(kinds, str) else kinds.get(name, USUAL) for name in names}
    columns = zip(names, labels.to_numpy(dtype=float).T, strict=True)
    return {name: Scale.fit(chosen[name], column, digits=digits) for name, column in columns}
