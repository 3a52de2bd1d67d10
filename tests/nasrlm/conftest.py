"""A small table, a protocol on it, and surrogates that are plugged in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bench_doubles import Another, Broken, Recorder

import search_spaces
from nasrlm.bench import methods
from nasrlm.bench.protocol import Protocol
from search_spaces.analysis import count_macs
from surrogates import registry

NETWORKS = 90


@pytest.fixture(scope="session")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of real networks with labels made of their MACs; a tenth is not measured."""
    space = search_spaces.get("nasbench_macro")
    rng = np.random.default_rng(0)
    nets = [space.sample(rng) for _ in range(NETWORKS)]
    macs = np.array([count_macs(space.to_onnx(net)) for net in nets], dtype=float) / 1e6
    frame = pd.DataFrame({"arch": [space.format(net) for net in nets], "board_latency_ms": macs})
    frame["toy_test"] = 100 - macs + rng.normal(0, 5, NETWORKS)
    frame["other_latency_ms"] = frame["board_latency_ms"] * 2
    frame.loc[::10, "toy_test"] = np.nan
    path = tmp_path_factory.mktemp("labels") / "mine.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def protocol(own_file: Path) -> Protocol:
    return Protocol("mine", ("board_latency_ms",), (8, 16), 2, 40, str(own_file), "nasbench_macro", resamples=20)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cls in {"recorder": Recorder, "another": Another, "broken": Broken}.items():
        monkeypatch.setitem(registry.BUILT_IN, name, f"{cls.__module__}:{cls.__name__}")
    monkeypatch.setattr(Recorder, "seen", [])
    methods._prototype.cache_clear()
