"""Networks with labels that several modules train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from search_spaces.analysis import count_macs, count_parameters
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM
from surrogates.text import linearize
from tests.surrogates.started import QUICK, TINY, networks


@pytest.fixture(scope="module")
def cells() -> tuple[list[str], pd.DataFrame]:
    """Texts of 160 NAS-Bench-201 cells with parameters, MACs (a fifth missing) and a noisy copy of the parameters."""
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(5)
    models = [space.to_onnx(space.sample(rng)) for _ in range(160)]
    labels = pd.DataFrame({"params": [count_parameters(m) for m in models], "macs": [count_macs(m) for m in models]})
    labels = labels.astype(float)
    labels["noisy"] = labels["params"].rank(pct=True) + rng.normal(0, 0.3, len(labels))
    labels.loc[rng.random(160) < 0.2, "macs"] = np.nan
    return [linearize(m) for m in models], labels


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows parameters and live MACs."""
    folder = tmp_path_factory.mktemp("start")
    known = networks(96, 0)
    rlm = RLM(TINY, QUICK).fit(known, free_targets(known)[["log_params", "live_log_macs"]])
    rlm.save_pretrained(folder)
    return folder
