"""Surrogates that the benchmark is tested with."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from linear_surrogate import LinearSurrogate


class Recorder(LinearSurrogate):
    """Notes what it was given."""

    seen: ClassVar[list[tuple[tuple[Any, ...], tuple[str, ...]]]] = []

    def fit(self, graphs: Any, labels: pd.DataFrame) -> Any:
        self.seen.append((graphs.architectures, tuple(labels.columns)))
        return super().fit(graphs, labels)


class Another(Recorder):
    pass


class Broken(LinearSurrogate):
    def predict(self, graphs: Any, metrics: Any = None, given: Any = None) -> Any:
        raise RuntimeError("no prediction today")
