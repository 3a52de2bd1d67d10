"""``nasrlm train``, ``specialise`` and ``finetune`` with the language model: validation networks, frozen modules."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import search_spaces
from nasrlm.bench.pretrained import FEW_TEACHING, MORE_TEACHING, TEACHING, recipe
from nasrlm.cli import main
from nasrlm.cli.fitting import calibrate_by_labels, configure, few_shot
from search_spaces.analysis import count_macs, count_parameters
from search_spaces.errors import UsageError
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.distillation import TeachingConfig
from surrogates.rlm.few_shot import FineTunedRLM

TINY = [
    *("heads=producers,all", "width=20", "encoder_layers=1", "decoder_layers=1", "feed_forward=32"),
    *("epochs=6", "batch_size=16", "learning_rate=0.01", "ema=0.9", "digit_weights=2,1", "threads=1"),
]
OPTIONS = [text for option in TINY for text in ("--option", option)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 90 NAS-Bench-201 cells."""
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(2)
    cells = [space.sample(rng) for _ in range(90)]
    models = [space.to_onnx(cell) for cell in cells]
    frame = pd.DataFrame({"arch": [space.format(cell) for cell in cells]})
    frame["params"], frame["macs"] = [count_parameters(m) for m in models], [count_macs(m) for m in models]
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(table: Path) -> Path:
    out = table.parent / "trained"
    options = ["--labels", str(table), "--metrics", "params", "--size", "80", "--validation", "30", *OPTIONS]
    assert main(["train", "nasbench201", "--out", str(out), "--json", *options]) == 0
    return out


def test_train_calibrates_on_networks_set_aside(trained: Path) -> None:
    rlm = RLM.from_pretrained(trained)
    assert rlm.model.heads == ("producers", "all")
    assert rlm.training.digit_weights == (2.0, 1.0)
    assert rlm.temperatures != (1.0,)
    assert len(rlm.scales[0].values) <= 50  # the scale knows nothing of the thirty


def test_finetune_freezes_and_adds_metrics(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--labels", str(table), "--metrics", "macs", "--size", "60", "--validation", "20", *OPTIONS]
    out = tmp_path / "tuned"
    command = ["finetune", str(trained), "nasbench201", "--out", str(out), "--json", *options]
    assert main([*command, "--freeze", "encoder,decoder"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["labels"] == 40
    assert printed["held_out"][0]["held out"] == 30
    before, after = RLM.from_pretrained(trained), RLM.from_pretrained(out)
    assert after.metrics == ("params", "macs")
    old, new = before.network.state_dict(), after.network.state_dict()
    for name, tensor in old.items():
        if name.startswith(("encoder.", "decoder.")):
            assert torch.equal(tensor, new[name]), name
    assert not torch.equal(old["output.weight"], new["output.weight"])


def small_start(table: Path, folder: Path) -> RLM:
    """A start that read 40 cells, kept in ``folder``."""
    space = search_spaces.get("nasbench201")
    models = [space.to_onnx(space.parse(text)) for text in pd.read_csv(table)["arch"][:40]]
    model = ModelConfig(
        **{"width": 20, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 32},
        **{"heads": ("producers", "all"), "encoder": "lines", "ways": True},
    )
    quick = TrainingConfig(epochs=4, batch_size=16, learning_rate=0.01, threads=1)
    targets = free_targets(models)[["log_macs", "live_depth"]].assign(synflow=np.arange(40.0))
    start = RLM(model, quick).fit(models, targets)
    start.save_pretrained(folder)
    return start


def test_a_start_is_specialised_in_a_space_without_labels(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = small_start(table, tmp_path / "start")
    command = ["specialise", "nasbench_macro", "--start", str(tmp_path / "start"), "--networks", "24", "--epochs", "6"]
    assert main([*command, "--scored", "2", "--out", str(tmp_path / "macro"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        **{"out": str(tmp_path / "macro"), "start": str(tmp_path / "start"), "networks": 24, "scored": 2}
    }
    after = RLM.from_pretrained(tmp_path / "macro")
    assert after.metrics == before.metrics and after.scales == before.scales
    assert not torch.equal(after.network.state_dict()["output.weight"], before.network.state_dict()["output.weight"])
    for wrong, said in (
        (["--start", "nasbench201"], "begin with rlm-small"),  # reads tokens
        (["--scored", "25"], "scored 25"),
        (["--out", str(tmp_path / "start")], "already holds"),
    ):
        assert main([*command, "--out", str(tmp_path / "new"), *wrong]) != 0
        assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_proxies_are_not_computed_for_a_start_that_knows_none(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rlm = small_start(table, tmp_path / "start")
    rlm.keep(["log_macs", "live_depth"]).save_pretrained(tmp_path / "counts")
    command = ["specialise", "nasbench_macro", "--start", str(tmp_path / "counts"), "--out", str(tmp_path / "new")]
    assert main([*command, "--networks", "24", "--scored", "2"]) != 0
    assert "knows none of the proxies" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_pretrained_model_is_fitted_by_the_recipe_for_few_labels(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = small_start(table, tmp_path / "start")
    options = ["--labels", str(table), "--metrics", "params", "--size", "20", "--seed", "3", "--freeze", "encoder"]
    settings = [text for option in ("pool=30", "epochs=2", "threads=1", "folds=2") for text in ("--option", option)]
    command = ["finetune", str(tmp_path / "start"), "nasbench201", *options, *settings, "--json"]
    assert main([*command, "--out", str(tmp_path / "tuned")]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == 20
    tuned = RLM.from_pretrained(tmp_path / "tuned")
    assert tuned.metrics == ("params",)  # what it was pretrained on is forgotten
    assert (tuned.training.epochs, tuned.training.seed) == (2, 3)  # as asked
    expected = recipe(20)
    for name in "learning_rate", "batch_size", "orders", "ranking_by":  # as the recipe has it
        assert getattr(tuned.training, name) == expected.get(f"training.{name}", getattr(TrainingConfig(), name))
    kept, now = start.network.state_dict(), tuned.network.state_dict()
    assert all(torch.equal(kept[name], now[name]) for name in kept if name.startswith("encoder."))
    assert not torch.equal(kept["output.weight"], now["output.weight"])
    assert tuned.spreads != (1.0,)  # learned from labels set aside in turn


def test_the_recipe_is_for_models_that_read_lines_and_know_free_targets() -> None:
    tokens, lines = RLM.from_pretrained("nasbench201"), RLM.from_pretrained("rlm-free")
    assert few_shot(lines, "rlm-free", ["params"], 20, ()) is not None
    assert few_shot(tokens, "nasbench201", ["params"], 20, ()) is None
    tokens.metrics = ("log_macs", *tokens.metrics[1:])
    assert few_shot(tokens, "nasbench201", ["params"], 20, ()) is None


@pytest.mark.parametrize(("size", "folds"), [(15, 0), (16, 4), (256, 4)])
def test_labels_calibrate_unless_there_are_too_few_or_some_are_set_aside_for_trust(size: int, folds: int) -> None:
    surrogate = few_shot(RLM.from_pretrained("rlm-free"), "rlm-free", ["params"], size, ())
    assert surrogate is not None and surrogate.calibration.folds == 0
    for teaching, expected in (["pool=64", "trust_folds=4"], 0), (["pool=0"], folds):  # no pool, no trust
        configure(surrogate, teaching, seed=0)
        calibrate_by_labels(surrogate, size)
        assert surrogate.calibration.folds == expected


def test_options_may_ask_for_one_another_in_any_order() -> None:
    surrogate = few_shot(RLM.from_pretrained("rlm-free"), "rlm-free", ["params"], 1000, ())
    assert surrogate is not None
    configure(surrogate, ["stacked=true", "shrinks=0.7,1", "freeze=encoder", "trust_folds=4", "pool=64"], seed=0)
    assert surrogate.teaching.stacked and surrogate.teaching.trust_folds == 4
    assert surrogate.teaching.shrinks == (0.7, 1.0) and surrogate.start.freeze == ("encoder",)
    with pytest.raises(UsageError, match=r"trust_folds=0\.5: expected name=value with a value like 4"):
        configure(surrogate, ["trust_folds=0.5"], seed=0)


def test_folds_asked_for_and_networks_set_aside_stand(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_start(table, tmp_path / "start")
    found = list[int]()

    def noted(surrogate: FineTunedRLM, *_: object, validation: object = None, **__: object) -> FineTunedRLM:
        found.append(surrogate.calibration.folds)
        raise UsageError("enough")

    monkeypatch.setattr(FineTunedRLM, "fit", noted)
    command = ["finetune", str(tmp_path / "start"), "nasbench201", "--labels", str(table), "--metrics", "params"]
    trust = ["--option", "pool=40", "--option", "trust_folds=2"]
    asked = (["--option", "pool=0"], trust, [*trust, "--option", "folds=3"], ["--option", "folds=0"])
    for index, options in enumerate((*asked, ["--validation", "20"])):
        assert main([*command, "--size", "90", *options, "--out", str(tmp_path / str(index))]) != 0
        assert "enough" in capsys.readouterr().err
    assert found == [4, 0, 3, 0, 0]


@pytest.mark.parametrize(
    ("size", "teaching"),
    [(63, FEW_TEACHING), (64, TEACHING), (255, TEACHING), (256, MORE_TEACHING), (999, MORE_TEACHING), (1000, {})],
)
def test_labels_are_carried_further_until_there_are_enough(size: int, teaching: Mapping[str, Any]) -> None:
    surrogate = few_shot(RLM.from_pretrained("rlm-free"), "rlm-free", ["params"], size, ())
    assert isinstance(surrogate, FineTunedRLM)
    expected = {key.removeprefix("teaching."): value for key, value in teaching.items()}
    assert surrogate.teaching == replace(TeachingConfig(), **expected)


@pytest.mark.parametrize("size", [16, 128, 300, 512, 999, 1000])
def test_without_fresh_networks_the_recipe_is_another(size: int) -> None:
    lines = RLM.from_pretrained("rlm-free")

    def steps(*options: str) -> int:
        surrogate = few_shot(lines, "rlm-free", ["params"], size, (), options, seed=7)
        assert surrogate is not None and surrogate.training.seed == 7
        taught = size < 1000 and "pool=0" not in options
        assert bool(surrogate.teaching.pool) == taught
        assert taught or surrogate.teaching == TeachingConfig()
        assert (surrogate.training.epochs == 3) == ("epochs=3" in options)
        return surrogate.training.epochs * math.ceil(size / surrogate.training.batch_size)

    longer = steps("pool=0") / steps()
    assert longer == 1 if size in (16, 128, 1000) else longer > 1.3
    assert steps("pool=0", "epochs=3", "batch_size=8") == steps("epochs=3", "batch_size=8")  # as asked
    assert steps("pool=0", "epochs=3") == steps("epochs=3")


def test_figures_that_flatter_are_said_to(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rlm-small learned labels of every table of the project; another checkpoint of the same labels did not."""
    options = ["--labels", str(table), "--metrics", "params", "--size", "20", "--json"]
    settings = [text for option in ("pool=0", "epochs=1", "orders=1", "folds=0") for text in ("--option", option)]
    for start, flattered in (("rlm-small", True), ("rlm-free", False)):
        command = ["finetune", start, "nasbench201", *options, *settings, "--out", str(tmp_path / start)]
        assert main(command) == 0
        assert ("flatter" in capsys.readouterr().err) == flattered


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["--freeze", "encodr"], "Did you mean 'encoder'"),
        (["--validation", "20"], "between 0 and 19"),
        (["--option", "digit_weights=2,x"], "digit_weights"),
    ],
)
def test_what_cannot_be_is_named(
    trained: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], complaint: str
) -> None:
    options = ["--labels", str(table), "--metrics", "macs", "--size", "20", "--out", str(tmp_path / "new"), *changes]
    assert main(["finetune", str(trained), "nasbench201", *options]) != 0
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_surrogates_without_use_for_validation_say_so(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--labels", str(table), "--metrics", "macs", "--size", "60", "--out", str(tmp_path / "new")]
    assert main(["train", "nasbench201", "--surrogate", "xgboost", "--validation", "20", *options]) != 0
    assert "no use for --validation" in capsys.readouterr().err


def test_a_fit_killed_while_it_was_saved_is_resumed(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state goes last: a folder that still has it is unfinished, whatever else was written."""
    out = tmp_path / "out"
    command = ["train", "nasbench201", "--labels", str(table), "--metrics", "params", "--size", "40"]
    command += ["--out", str(out), *OPTIONS]

    def killed(rlm: RLM, path: Path) -> None:
        (path / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RLM, "save_pretrained", killed)
        assert main(command) != 0
    assert (out / "unfinished" / "training.pt").is_file()
    assert main(command) != 0  # not without being asked
    assert main([*command, "--resume"]) == 0
    assert RLM.from_pretrained(out).metrics == ("params",) and not (out / "unfinished").exists()
    assert main([*command, "--resume"]) != 0  # finished
