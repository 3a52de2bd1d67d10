"""``nasrlm predict`` says how far a network lies from what the surrogate was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

import search_spaces
from nasrlm.cli import main
from search_spaces.analysis import count_parameters
from surrogates import registry
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.familiarity import DISTANCE_FILE
from tests.surrogates.strangers import NETWORKS, export

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of NAS-Bench-201, a cell it was not trained on, and a network that PyTorch exported."""
    path = tmp_path_factory.mktemp("predict")
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(2)
    models = [space.to_onnx(space.sample(rng)) for _ in range(150)]
    labels = pd.DataFrame({"params": [float(count_parameters(model)) for model in models]})
    RLM(TINY, TrainingConfig(epochs=4, threads=1)).fit(models, labels).save_pretrained(path / "checkpoint")
    cell = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    onnx.save_model(space.to_onnx(space.parse(cell)), path / "cell.onnx")
    network, example = NETWORKS["mobilenet"]
    onnx.save_model(export(network(), example(), "torchscript"), path / "mobilenet.onnx")
    return path


def predict(folder: Path, *options: str) -> int:
    files = [str(folder / "cell.onnx"), str(folder / "mobilenet.onnx")]
    return main(["predict", *files, "--surrogate", str(folder / "checkpoint"), *options])


def test_the_table_tells_near_from_far(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder) == 0
    printed = capsys.readouterr()
    near, far = (line for line in printed.out.split("\n") if ".onnx" in line)
    assert "typical: farther out than" in near
    assert "x the distance of the farthest training network" in far
    (warning,) = printed.err.strip().split("\n")
    assert warning.startswith(f"warning: {folder / 'mobilenet.onnx'} is unlike")
    assert "Conv k5 dw b" in warning


def test_json_holds_the_distance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder, "--json") == 0
    near, far = (network["familiarity"] for network in json.loads(capsys.readouterr().out))
    assert (near["verdict"], near["unseen"]) == ("typical", [])
    assert far["verdict"] == "far"
    assert far["distance"] > 1 > near["distance"]
    assert "HardSwish" in far["unseen"]


def test_a_checkpoint_that_cannot_tell_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "checkpoint" / DISTANCE_FILE).rename(folder / "aside")
    try:
        assert predict(folder, "--json") == 0
    finally:
        (folder / "aside").rename(folder / "checkpoint" / DISTANCE_FILE)
    printed = capsys.readouterr()
    assert [network["familiarity"] for network in json.loads(printed.out)] == [None, None]
    assert "does not say how far" in printed.err


def test_the_shipped_checkpoint_knows_its_space() -> None:
    rlm = registry.load("nasbench201")
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    found = rlm.familiarity([space.to_onnx(space.sample(rng)) for _ in range(40)])
    if found is None:
        pytest.skip("the shipped checkpoint was saved without distance.safetensors")
    assert np.mean([one.verdict == "typical" for one in found]) > 0.8
    others = rlm.familiarity([search_spaces.get("fbnet").to_onnx(search_spaces.get("fbnet").sample(rng))])
    assert others is not None
    assert others[0].distance > 1.25
