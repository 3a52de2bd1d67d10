"""Zero-cost proxies as a prefix of what a language model writes: learned with the metric, given when it predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from nasrlm.bench import methods, runs
from nasrlm.bench.inputs import open_table
from nasrlm.bench.methods import Method, find
from nasrlm.bench.protocol import Protocol, Task

TINY = {
    "model.width": 16,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "model.heads": ("producers", "all"),
    "model.feed_forward": 32,
    "training.learning_rate": 1e-2,
    "training.epochs": 40,
    "training.batch_size": 32,
    "training.joint": 1.0,
    "training.threads": 1,
    "training.ema": 0.9,
}


def test_a_model_reads_the_proxies_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that nothing but a proxy tells of, which no graph says, are learned with it and not without."""
    space, rng = search_spaces.get("nasbench_macro"), np.random.default_rng(0)
    archs = sorted({space.sample(rng) for _ in range(400)}, key=space.format)[:300]
    secret = rng.permutation(len(archs)) / len(archs)
    frame = pd.DataFrame({"arch": [space.format(arch) for arch in archs], "toy_test": 90 + secret, "zcp_told": secret})
    frame.to_csv(tmp_path / "mine.csv", index=False)
    protocol = Protocol("mine", ("toy_test",), (128,), 1, 100, labels=str(tmp_path / "mine.csv"), space=space.name)
    told = Method("told", "rlm", TINY, reads="texts", proxies=True, prefix=0.5)
    monkeypatch.setitem(methods.EXTRA, "told", told)
    monkeypatch.setitem(methods.EXTRA, "untold", replace(told, name="untold", proxies=False, prefix=0.0))
    taus = {}
    for name in "told", "untold":
        line = runs.run_task(Task(protocol, ("toy_test",), name, 128, 0), tmp_path / "runs")
        taus[name] = float(line.split("tau ")[1].split(",")[0])
    assert taus["told"] > 0.6 and abs(taus["untold"]) < 0.3


def test_weights_of_proxies_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"arch": ["000", "111", "222"], "toy_test": [1.0, 2.0, 3.0]})
    for proxies in (), ("zcp_a", "zcp_b"):
        path = tmp_path / f"{len(proxies)}.csv"
        frame.assign(**dict.fromkeys(proxies, 0.5)).to_csv(path, index=False)
        table = open_table("mine", str(path), "nasbench_macro", ("toy_test", *proxies), tmp_path)
        method = find("rlm_zcp")
        assert method.applies(table) == bool(proxies)
        assert method.weights(table) == dict.fromkeys(proxies, method.prefix)
        if proxies:
            assert method.identity(table, ["toy_test"], 16)["metric_weights"] == method.weights(table)
            assert not any(key.startswith("training.inputs") for key in method.chosen(table, ["toy_test"], 16))
