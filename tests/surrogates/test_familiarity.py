"""Distance from the training graphs: near what was trained on, far from everything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

import search_spaces
from search_spaces.analysis import count_parameters
from search_spaces.errors import CheckpointError, UsageError
from surrogates.base import FAR, Familiarity
from surrogates.rlm import RLM, ModelConfig, TrainingConfig
from surrogates.rlm.familiarity import DISTANCE_FILE, LEAST_VALIDATION, TrainingDistribution, operators
from surrogates.rlm.pretrained import CONFIG_FILE
from surrogates.text import linearize
from tests.surrogates.strangers import NETWORKS, export

TINY = ModelConfig(
    width=40, encoder_layers=2, decoder_layers=1, feed_forward=64, heads=("producers", "consumers") * 2 + ("all",)
)
QUICK = TrainingConfig(epochs=8, batch_size=32, learning_rate=4e-3, threads=1)

Texts = tuple[list[str], pd.DataFrame]


def sampled(space: str, count: int, seed: int) -> Texts:
    """Texts of distinct networks, and their parameters."""
    made, rng = search_spaces.get(space), np.random.default_rng(seed)
    found = {made.sample(rng): None for _ in range(2 * count)}
    models = [made.to_onnx(arch) for arch in list(found)[:count]]
    return [linearize(m) for m in models], pd.DataFrame({"params": [float(count_parameters(m)) for m in models]})


@pytest.fixture(scope="module")
def cells() -> Texts:
    return sampled("nasbench201", 400, seed=0)


@pytest.fixture(scope="module")
def fitted(cells: Texts) -> RLM:
    texts, labels = cells
    return RLM(TINY, QUICK).fit(texts[:300], labels[:300])


def familiarity(rlm: RLM, texts: list[str]) -> tuple[Familiarity, ...]:
    found = rlm.familiarity(texts)
    assert found is not None
    return found


def make_old(folder: Path) -> None:
    """Turn a checkpoint into one of a version that did not know distances."""
    (folder / DISTANCE_FILE).unlink()
    config = json.loads((folder / CONFIG_FILE).read_text())
    assert config.pop("distance") is True
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def test_unseen_cells_of_the_same_space_are_typical(fitted: RLM, cells: Texts) -> None:
    found = familiarity(fitted, cells[0][300:])
    assert all(one.unseen == () for one in found)
    assert np.mean([one.verdict == "typical" for one in found]) > 0.8
    assert np.mean([one.verdict == "far" for one in found]) < 0.05
    assert 0.25 < np.median([one.share for one in found]) < 0.75


@pytest.mark.parametrize("space", ["darts", "fbnet", "nasbench101", "mnasnet", "transnas_micro"])
def test_other_spaces_are_far(fitted: RLM, space: str) -> None:
    texts, _ = sampled(space, 10, seed=1)
    assert fitted.distance(texts).min() > FAR  # by the encoder alone
    found = familiarity(fitted, texts)
    assert all(one.verdict == "far" for one in found)
    assert all(one.unseen for one in found)


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit"])
def test_exports_of_strangers_are_far(fitted: RLM, name: str) -> None:
    network, example = NETWORKS[name]
    model = export(network(), example(), "torchscript")
    assert fitted.distance([model])[0] > FAR
    (one,) = familiarity(fitted, [linearize(model)])
    assert one.verdict == "far"
    assert {"resnet": "Conv k3 b", "mobilenet": "Conv k5 dw b", "vit": "Softmax"}[name] in one.unseen
    assert "x the distance of the farthest" in str(one)


def test_a_checkpoint_keeps_it_small_and_old_ones_go_without(fitted: RLM, cells: Texts, tmp_path: Path) -> None:
    texts = cells[0][300:320]
    fitted.save_pretrained(tmp_path)
    again = RLM.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.distance(texts), fitted.distance(texts), rtol=1e-5)
    assert [one.unseen for one in familiarity(again, texts)] == [()] * len(texts)
    assert (tmp_path / DISTANCE_FILE).stat().st_size < 12_000  # 40 x 40 numbers of four bytes, and the quantiles
    make_old(tmp_path)
    old = RLM.from_pretrained(tmp_path)
    np.testing.assert_array_equal(old.predict(texts).mean, fitted.predict(texts).mean)
    assert old.familiarity(texts) is None
    with pytest.raises(UsageError, match="learn_distance"):
        old.distance(texts)
    old.learn_distance(cells[0][:300])
    np.testing.assert_allclose(old.distance(texts), fitted.distance(texts), rtol=1e-5)


def test_saving_a_model_without_removes_what_another_left(fitted: RLM, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "one")
    make_old(tmp_path / "one")
    old = RLM.from_pretrained(tmp_path / "one")
    fitted.save_pretrained(tmp_path / "two")
    old.save_pretrained(tmp_path / "two")
    assert not (tmp_path / "two" / DISTANCE_FILE).exists()
    assert RLM.from_pretrained(tmp_path / "two").familiarity([]) is None


def test_damaged_files_are_refused(fitted: RLM, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    path = tmp_path / DISTANCE_FILE
    arrays = load_file(path)
    save_file(arrays, path, metadata={"format_version": "99", "operators": "[]"})
    with pytest.raises(CheckpointError, match="format 99"):
        RLM.from_pretrained(tmp_path)
    save_file(arrays, path, metadata={"format_version": "1"})
    with pytest.raises(CheckpointError, match="no description of training graphs"):
        RLM.from_pretrained(tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no description of training graphs"):
        RLM.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=DISTANCE_FILE):
        RLM.from_pretrained(tmp_path)


def test_finetuning_moves_it_and_remembers_operators(cells: Texts, tmp_path: Path) -> None:
    texts, labels = cells
    rlm = RLM(TINY, TrainingConfig(epochs=2, threads=1)).fit(texts[:100], labels[:100])
    others, values = sampled("nasbench101", 60, seed=2)
    before = rlm.distance(others[40:])
    rlm.finetune(others[:40], values[:40])
    after = familiarity(rlm, others[40:])
    assert before.min() > FAR
    assert np.mean([one.distance < 1 for one in after]) > 0.8
    assert all(one.unseen == () for one in familiarity(rlm, texts[:100]))


def test_asking_changes_nothing(fitted: RLM, cells: Texts) -> None:
    texts = cells[0][300:330]
    before = fitted.predict(texts).mean
    fitted.network.train()
    first = fitted.distance(texts)
    assert fitted.network.training
    np.testing.assert_allclose(fitted.distance(texts[::-1])[::-1], first, rtol=1e-4)  # however they are batched
    np.testing.assert_array_equal(fitted.predict(texts).mean, before)
    assert fitted.distance([]).shape == (0,)


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("graphs", [60, 400])
def test_shares_of_new_graphs_are_uniform(graphs: int, validated: bool) -> None:
    """The scale must not come from graphs as near as those the Gaussian was fitted to, which in 30 dimensions are."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(30, 30)) * np.geomspace(1, 0.01, 30)

    def draw(count: int) -> np.ndarray:
        return rng.normal(size=(count, 30)) @ mixing + 5

    known = TrainingDistribution.learn(draw(graphs), (), validation=draw(200) if validated else None)
    shares = [one.share for one in known.familiarity(draw(2000), ["in 1"] * 2000)]
    np.testing.assert_allclose(np.quantile(shares, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.15)


def test_few_validation_graphs_are_no_scale() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6))
    few = TrainingDistribution.learn(vectors, (), validation=100 * rng.normal(size=(LEAST_VALIDATION - 1, 6)))
    enough = TrainingDistribution.learn(vectors, (), validation=100 * rng.normal(size=(LEAST_VALIDATION, 6)))
    assert few.quantiles[-1] < 20 < enough.quantiles[-1]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_training_graphs_do(count: int, cells: Texts) -> None:
    vectors = np.ones((count, 4))
    known = TrainingDistribution.learn(vectors, operators(cells[0][:1]))
    assert np.isfinite(known.distance(np.zeros((3, 4)))).all()
    assert (known.distance(np.zeros((3, 4))) > FAR).all()


def test_operators_are_told_by_attributes_not_by_sizes() -> None:
    text = "\n".join(
        [
            "def 2",
            "Relu|Conv k3 s2 d2 dw|Conv k1 w64x32x1x1 <2 1 @16",
            "F1*3:c8;;c16 <2",
            "Mul(~,=0.5f) <1",
            "Weight 64x32",
            "com.acme::Magic mode='x' >101 @8",
            "in t7 *x12",
            "out <1 2",
        ]
    )
    found = {"Relu", "Conv k3 s2 d2 dw", "Conv k1", "Mul", "Weight", "com.acme::Magic mode='x'"}
    assert operators([text]) == found
    assert operators([text, "in 3x32x32\nSoftmax axis=1 <1"]) == {*found, "Softmax axis=1"}


def test_verdicts() -> None:
    assert Familiarity(0.5, 0.4).verdict == "typical"
    assert str(Familiarity(0.5, 0.4)) == "typical: farther out than 40% of the training networks"
    assert Familiarity(0.9, 0.97).verdict == "unusual"
    assert Familiarity(1.1, 1.0).verdict == "unusual"
    assert Familiarity(9.3, 1.0).verdict == "far"
    assert Familiarity(0.5, 0.4, ("Einsum",)).verdict == "far"


def test_it_follows_the_weights(fitted: RLM, cells: Texts) -> None:
    """What was learned of one network says nothing of another: a new fit must learn it anew."""
    texts, labels = cells
    other = RLM(TINY, TrainingConfig(epochs=1, threads=1, seed=5)).fit(texts[:50], labels[:50])
    known = other.distance(texts[300:])
    with torch.no_grad():
        other.network.encoder.norm.weight.mul_(3.0)  # type: ignore[union-attr, operator]
    assert not np.allclose(other.distance(texts[300:]), known)
    other.learn_distance(texts[:50])
    np.testing.assert_allclose(other.distance(texts[300:]), known, rtol=1e-3)
