"""``nasrlm predict`` says how far a network lies from what the surrogate was trained on."""

from __future__ import annotations

import json
import shutil
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
from surrogates.rlm.pretrained import CONFIG_FILE
from tests.surrogates.strangers import NETWORKS, export

TINY = ModelConfig(width=20, encoder_layers=1, decoder_layers=1, feed_forward=32, heads=("producers", "all"))
#: Residual blocks, depthwise convolutions, attention blocks; and an operator each has that no cell has.
STRANGERS = {"resnet": "Conv k3 b", "mobilenet": "HardSwish", "vit": "LayerNormalization b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of NAS-Bench-201, a cell it was not trained on, and networks that PyTorch exported."""
    path = tmp_path_factory.mktemp("predict")
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(2)
    models = [space.to_onnx(space.sample(rng)) for _ in range(150)]
    labels = pd.DataFrame({"params": [float(count_parameters(model)) for model in models]})
    RLM(TINY, TrainingConfig(epochs=4, threads=1)).fit(models, labels).save_pretrained(path / "checkpoint")
    cell = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    onnx.save_model(space.to_onnx(space.parse(cell)), path / "cell.onnx")
    for name in STRANGERS:
        network, example = NETWORKS[name]
        onnx.save_model(export(network(), example(), "torchscript"), path / f"{name}.onnx")
    return path


def predict(folder: Path, *options: str) -> int:
    files = [str(folder / f"{name}.onnx") for name in ("cell", *STRANGERS)]
    return main(["predict", *files, "--surrogate", str(folder / "checkpoint"), *options])


def test_the_table_tells_near_from_far(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder) == 0
    printed = capsys.readouterr()
    near, *strangers = (line for line in printed.out.split("\n") if ".onnx" in line)
    assert "typical: farther out than" in near
    assert all("x the distance of the farthest training network" in line for line in strangers)
    warnings = printed.err.strip().split("\n")
    for name, warning in zip(STRANGERS, warnings, strict=True):
        assert warning.startswith(f"warning: {folder / name}.onnx is unlike")


def test_json_holds_the_distance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder, "--json") == 0
    networks = json.loads(capsys.readouterr().out)
    near, *strangers = (network["familiarity"] for network in networks)
    assert (near["verdict"], near["unseen"]) == ("typical", [])
    assert near["distance"] < 1
    for stranger, operator in zip(strangers, STRANGERS.values(), strict=True):
        assert stranger["verdict"] == "far"
        assert stranger["distance"] > 1
        assert operator in stranger["unseen"]
    assert all(np.isfinite(network["predictions"]["params"]["mean"]) for network in networks)


def test_a_checkpoint_that_cannot_tell_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "checkpoint", tmp_path / "old")
    config = json.loads((tmp_path / "old" / CONFIG_FILE).read_text())
    (tmp_path / "old" / CONFIG_FILE).write_text(json.dumps({**config, "distance": False}))
    command = ["predict", str(folder / "cell.onnx"), "--surrogate", str(tmp_path / "old")]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert [network["familiarity"] for network in json.loads(printed.out)] == [None]
    assert "does not say how far" in printed.err
    assert main(command) == 0
    assert "unknown" in capsys.readouterr().out


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
