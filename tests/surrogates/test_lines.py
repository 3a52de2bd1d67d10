"""The encoder that reads lines: what a line costs, what a call runs, and what does not matter to it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import given, settings

import search_spaces
from nasrlm.metrics import kendall_tau
from search_spaces.analysis import count_macs, count_parameters
from search_spaces.errors import CheckpointError, InvalidGraphError, UsageError
from surrogates.rlm import RLM, DecodingConfig, ModelConfig, TrainingConfig, lines
from surrogates.rlm.inputs import collate
from surrogates.rlm.lines import WORDS_FILE, EncodedLines, LineBatch, LineEncoder, LineReader, words
from surrogates.text import linearize, parse
from surrogates.text.costs import line_costs
from surrogates.text.linearize import in_other_orders
from surrogates.text.wiring import bodies, wiring
from tests.surrogates.test_text_properties import graphs

MODEL = ModelConfig(
    width=40,
    encoder_layers=2,
    decoder_layers=1,
    heads=("producers", "consumers", "ancestors", "descendants", "all"),
    feed_forward=48,
    flow=True,
    ways=True,
    mean_heads=5,
    encoder="lines",
)
QUICK = TrainingConfig(epochs=2, batch_size=16, seed=0, precision="float32")
#: A function of two lines that another one calls; both are called from the main graph.
NESTED = "\n".join(
    [
        "def",
        "Conv k3",
        "Relu",
        "def 2",
        "F1*2 <2",
        "Add <1 2",
        "in 4x8x8",
        "Conv k1 c16|BatchNormalization @8",
        "F1*3",
        "F2 <1 2",
    ]
)


def total(text: str) -> np.ndarray:
    """Parameters and MACs of all lines of the main graph."""
    lines = text.split("\n")
    first = max(k for k, line in enumerate(lines) if line == "in" or line.startswith("in ")) + 1
    return np.expm1(line_costs(text)[first:, 2:].astype(float)).sum(axis=0)


@pytest.mark.parametrize("name", search_spaces.names())
def test_lines_of_the_main_graph_cost_what_the_network_costs(name: str) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(3)
    for _ in range(3):
        model = space.to_onnx(space.sample(rng))
        np.testing.assert_allclose(total(linearize(model)), [count_parameters(model), count_macs(model)], rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_graphs_cost_what_their_lines_cost(model: onnx.ModelProto) -> None:
    for outlining in (True, False):
        text = linearize(model, outlining=outlining)
        parameters, macs = total(text)
        assert macs == pytest.approx(count_macs(model), rel=1e-5)
        # the constants of the file, which are no weights, are weights of the text; so are shared statistics
        if not any(line.startswith("Weight") for line in text.split("\n")):
            assert parameters == pytest.approx(count_parameters(parse(text)), rel=1e-5)


def test_costs_line_by_line() -> None:
    conv, first = (
        16 * 16 * 9,
        4 * 16 + 2 * 16,
    )  # weights of a convolution in the function; of the first one and its norm
    pixels = 8 * 8
    runs = 3 + 2
    expected = [
        [0, 0, 0, 0],  # def
        [16, 8, runs * conv, runs * conv * pixels],
        [16, 8, 0, 0],
        [0, 0, 0, 0],  # def 2
        [16, 8, 2 * conv, 2 * conv * pixels],
        [16, 8, 0, 0],
        [0, 0, 0, 0],  # in
        [16, 8, first, 64 * pixels],
        [16, 8, 3 * conv, 3 * conv * pixels],
        [16, 8, 2 * conv, 2 * conv * pixels],
    ]
    np.testing.assert_allclose(np.expm1(line_costs(NESTED).astype(float)), expected, rtol=1e-5)


def test_a_line_that_cannot_be_read_has_no_costs() -> None:
    with pytest.raises(InvalidGraphError, match="F2"):
        line_costs("def\nRelu\nSigmoid\nin 3x8x8\nF2")


def test_bodies_count_what_a_call_runs() -> None:
    found = bodies(NESTED)
    assert found[4, 1] == found[4, 2] == 2  # F1*2 inside of F2
    assert found[8, 1] == found[8, 2] == 3
    assert found[9].tolist() == [0, 2, 2, 0, 1, 1, 0, 0, 0, 0]
    assert found.sum() == 4 + 6 + 6
    with pytest.raises(InvalidGraphError, match="calls F1, but only 0"):
        bodies("def\nF1\nin 3x8x8\nF1")  # a function cannot call itself


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "Conv k3 s2 dw c64|BatchNormalization|Relu <2 1 @16",
            ["Conv", "k3", "s2", "dw", "BatchNormalization", "Relu"],
        ),
        ("Mul(~,=0.5) <3", ["Mul", "(~,=0.5)"]),
        ("F12*5:c32;;c32 @16", ["F", "*5"]),
        ("F3", ["F"]),
        ("Gemm transB=1 c1000 b", ["Gemm", "transB=1", "b"]),
        ("Reshape(~,=[0;0;2;-1])|Transpose perm=[0,2,1]", ["Reshape", "(~,=[0;0;2;-1])", "Transpose", "perm=[0,2,1]"]),
        ("def 2", ["def", "2"]),
    ],
)
def test_words_leave_out_what_wires_and_costs_say(line: str, expected: list[str]) -> None:
    assert words(line) == expected


@pytest.fixture(scope="module")
def fitted(cells: tuple[list[str], pd.DataFrame]) -> RLM:
    texts, labels = cells
    return RLM(MODEL, QUICK).fit(texts, labels[["params"]])


def test_it_learns(cells: tuple[list[str], pd.DataFrame]) -> None:
    texts, labels = cells
    rlm = RLM(MODEL, replace(QUICK, epochs=25, learning_rate=3e-3, ema=0.9)).fit(texts[:120], labels[["params"]][:120])
    assert kendall_tau(labels["params"].to_numpy()[120:], rlm.predict(texts[120:]).mean[:, 0]) > 0.7


def read_out(rlm: RLM, texts: list[str]) -> np.ndarray:
    """What the decoder is given of each text in the mean."""
    states = rlm.network.encoder(collate(rlm.encode(texts)))
    present = states.present[..., None]
    return ((states.vectors * present).sum(1) / present.sum(1)).detach().numpy()


@pytest.mark.parametrize("name", ["nasbench201", "darts", "enas_macro"])
def test_the_order_of_lines_does_not_matter(name: str, fitted: RLM) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(8)
    model, other = (space.to_onnx(space.sample(rng)) for _ in range(2))
    orders = [linearize(model), *in_other_orders(model, 6, rng=rng)]
    assert len(set(orders)) > 1
    *found, different = read_out(fitted, [*orders, linearize(other)])
    for vector in found[1:]:
        np.testing.assert_allclose(vector, found[0], rtol=1e-3, atol=1e-5)
    assert np.abs(different - found[0]).max() > 1e-2


def test_what_stands_beside_a_graph_in_a_batch_does_not_matter(fitted: RLM, cells: tuple) -> None:
    texts = [*cells[0][:5], NESTED]
    alone = np.concatenate([read_out(fitted, [text]) for text in texts])
    np.testing.assert_allclose(read_out(fitted, texts), alone, rtol=1e-3, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 1e-2


def test_the_decoder_sees_the_main_graph(fitted: RLM) -> None:
    """Functions speak through the lines that call them: what they hold still counts."""
    (encoded,) = fitted.encode([NESTED])
    assert isinstance(encoded, EncodedLines)
    states = fitted.network.encoder(collate([encoded]))
    assert states.present[0].tolist() == [False] * 7 + [True] * 3
    other = NESTED.replace("def\nConv k3\nRelu", "def\nConv k3\nSigmoid")
    assert other != NESTED
    changed = fitted.network.encoder(collate(fitted.encode([other]))).vectors[0, 8:]
    assert not np.allclose(changed.detach(), states.vectors[0, 8:].detach())


def test_ways_are_told_unless_they_are_not_wanted() -> None:
    """A bare wire and a convolution, one behind the other or side by side: more ways pass the first wire, then."""
    behind, beside = (f"def\nIdentity\nConv k3 <{step}\nAdd <2 1\nin 4x8x8\nF1" for step in (1, 2))
    difference = {}
    for told in (True, False):
        reader = LineReader.learn([behind, beside], MODEL, vocabulary=8)
        torch.manual_seed(0)
        encoder = LineEncoder(replace(MODEL, ways=told), len(reader.tokenizer))
        first, second = encoder._lines(collate(reader.encode([behind, beside], context=64)))
        difference[told] = (first - second).abs().amax(dim=1).tolist()
    assert max(difference[False]) < 1e-6
    assert difference[True][1] > 1e-3
    assert max(difference[True][2:]) < 1e-6


def test_ways_are_for_lines() -> None:
    with pytest.raises(UsageError, match="ways are for the encoder 'lines', not 'wired'"):
        ModelConfig(ways=True)


def test_a_network_that_does_nothing_can_be_read(fitted: RLM) -> None:
    for text in ("in 3x8x8", "in 3x8x8\nout <1"):
        assert np.isfinite(fitted.predict([text]).mean).all()


def test_a_call_begins_as_what_it_calls(fitted: RLM) -> None:
    encoder = fitted.network.encoder
    assert isinstance(encoder, LineEncoder)
    batch = collate(fitted.encode(["def\nRelu\nConv k3 <1\nin 4x8x8\nRelu\nF1*3"]))
    assert isinstance(batch, LineBatch)
    by_words = encoder._lines(replace(batch, main=torch.zeros_like(batch.main)))[0, 5]
    known = [w for w in ["F", "*3", *["Relu", "Conv", "k3"] * 3] if w in fitted.tokenizer]
    assert known.count("Conv") == 3
    vectors = encoder.embedding.weight[[fitted.tokenizer.index(word) for word in known]]
    torch.testing.assert_close(by_words, vectors.sum(0) / len(known) ** 0.5)


def test_checkpoints_keep_words_and_scales(fitted: RLM, cells: tuple, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    again = RLM.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.predict(cells[0][:20]).mean, fitted.predict(cells[0][:20]).mean)
    assert again.tokenizer == fitted.tokenizer
    (tmp_path / WORDS_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="holds no words"):
        RLM.from_pretrained(tmp_path)


def test_unknown_words_are_passed_over(fitted: RLM) -> None:
    """A network of another space: nothing in it was seen, its costs and wires still tell."""
    text = "in 3x16x16\nConvTranspose k4 s2 c7\nGelu\nInstanceNormalization(~,%,%)"
    (encoded,) = fitted.encode([text])
    assert len(encoded.ids) < len(words(text.replace("\n", "|")))
    assert np.isfinite(fitted.predict([text]).mean).all()


def test_constant_costs_say_nothing() -> None:
    reader = LineReader.learn(["in 3x8x8\nRelu\nSigmoid"], MODEL, vocabulary=8)
    (encoded,) = reader.encode(["in 3x8x8\nRelu\nConv k3 c64"], context=64)
    assert isinstance(encoded, EncodedLines)
    assert not encoded.costs.any()


def texts_of(name: str, count: int) -> list[str]:
    space, rng = search_spaces.get(name), np.random.default_rng(5)
    return [linearize(space.to_onnx(space.sample(rng)), inlining=False) for _ in range(count)]


def test_a_text_is_read_once_but_always_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "KEPT", 2)
    texts = [f"in 3x8x8\nRelu\nConv k3 c{width}" for width in (8, 16, 32)]
    reader = LineReader.learn(texts, MODEL, vocabulary=64)
    first = reader.encode(texts[1:], context=64)
    assert all(again is before for again, before in zip(reader.encode(texts[1:], context=64), first, strict=True))
    with pytest.raises(InvalidGraphError, match="context of 2"):
        reader.encode(texts[1:], context=2)
    reader.encode(texts[:1], context=64)  # takes the place of the oldest
    after = reader.encode(texts[1:], context=64)
    assert after[0] is not first[0] and after[1] is first[1]


def known_words(reader: LineReader, text: str) -> list[list[str]]:
    """The words of each line as the encoder is given them."""
    (encoded,) = reader.encode([text], context=4096)
    assert isinstance(encoded, EncodedLines)
    return [[reader.tokenizer[k] for k in encoded.ids[encoded.lines == line]] for line in range(len(encoded.main))]


def test_the_projections_of_nasbench101_are_entries(tmp_path: Path) -> None:
    texts = texts_of("nasbench101", 12)
    reader, found = LineReader.learn(texts, MODEL, vocabulary=256), 0
    for text in texts:
        spoken, lines = known_words(reader, text), text.split("\n")
        wires = wiring(text)
        projections = [k for k in np.flatnonzero(wires.entries) if lines[k].startswith("Conv k1")]
        found += len(projections)
        for k, line in enumerate(spoken):
            marked = k in projections
            assert all(word.startswith("in ") == marked for word in line)
        (encoded,) = reader.encode([text], context=4096)
        assert isinstance(encoded, EncodedLines)
        for reading, projection in zip(*np.nonzero(encoded.operands[:, projections]), strict=True):
            assert (encoded.operands[reading] >= encoded.operands[projections[projection]]).all()
    assert found > len(texts)
    reader.save(tmp_path, reader.encoder(MODEL), store_encoder=True)
    assert known_words(LineReader.load(tmp_path), texts[0]) == known_words(reader, texts[0])


@pytest.mark.parametrize("name", ["nasbench201", "darts", "fbnet", "mnasnet", "enas_macro"])
def test_other_spaces_have_no_entries(name: str) -> None:
    reader = LineReader.learn(texts_of(name, 12), MODEL, vocabulary=1024)
    assert not any(word.startswith("in ") for word in reader.tokenizer)


def test_entries_are_told_apart_among_many_spaces() -> None:
    """Only NAS-Bench-101 has entries, whatever else the texts are of; texts without it know none."""
    others = [text for name in ("nasbench201", "darts", "inception", "fbnet") for text in texts_of(name, 12)]
    cells = texts_of("nasbench101", 12)
    marked = {
        text: any(word.startswith("in ") for line in known_words(reader, text) for word in line)
        for reader in [LineReader.learn([*others, *cells], MODEL, vocabulary=1024)]
        for text in [*others, *cells]
    }
    assert not any(marked[text] for text in texts_of("nasbench201", 12) + texts_of("darts", 12))
    assert all(marked[text] == bool(wiring(text).entries.any()) for text in cells)


@pytest.mark.parametrize(
    ("function", "elsewhere", "entry"),
    [
        ("Conv k1\nConv k1 <2\nAdd <1 2", "Conv k1", True),
        ("Conv k1\nConv k1 <2\nAdd <1 2", "Conv k3", False),  # written nowhere else: it means what it says
        ("Conv k1\nRelu <2\nAdd <1 2", "Conv k1", False),  # another kind beside it: somebody chose
        ("Conv k1\nRelu", "Conv k1", False),  # one input alone tells nothing
    ],
)
def test_what_several_inputs_pass_is_an_entry(function: str, elsewhere: str, entry: bool) -> None:
    text = f"def\n{function}\nin 4x8x8\n{elsewhere}\nF1"
    assert ("in k1" in LineReader.learn([text], MODEL, vocabulary=32).tokenizer) == entry


def test_calls_are_no_entries() -> None:
    text = "def\nRelu\nConv k3\ndef\nF1\nF1 <2\nAdd <1 2\nF1\nin 4x8x8\nRelu\nF2"
    assert not any(word.startswith("in ") for word in LineReader.learn([text], MODEL, vocabulary=32).tokenizer)


def test_depth_is_a_share_of_the_deepest_training_text() -> None:
    reader = LineReader.learn(["in 3x8x8" + 4 * "\nRelu"], MODEL, vocabulary=8)
    for text, expected in {
        "def\nRelu\nin 3x8x8\nRelu\nF1": [0, 0, 0, 0.25, 0.5],
        "in 3x8x8" + 6 * "\nRelu": [0, 0.25, 0.5, 0.75, 1, 1, 1],
    }.items():
        (encoded,) = reader.encode([text], context=64)
        assert isinstance(encoded, EncodedLines)
        np.testing.assert_allclose(encoded.depth, expected, rtol=1e-6)


def test_the_place_of_a_layer_matters() -> None:
    """Two layers that change places, between others of the same cost: without depth a bag of lines is the same."""
    texts = ["in 4x8x8" + "".join(f"\n{line}" for line in order) for order in permutations(["Relu", "Gelu", "Tanh"])]
    rlm = RLM(replace(MODEL, flow=False), QUICK).initialise(texts, pd.DataFrame({"loss": np.arange(6.0)}))
    encoder = rlm.network.encoder
    assert isinstance(encoder, LineEncoder)
    lines = encoder._lines(collate(rlm.encode(texts)))  # type: ignore[arg-type]
    assert np.ptp((lines**2).sum((1, 2)).detach().numpy()) > 1e-5
    torch.nn.init.zeros_(encoder.depths.weight)
    lines = encoder._lines(collate(rlm.encode(texts)))  # type: ignore[arg-type]
    assert np.ptp((lines**2).sum((1, 2)).detach().numpy()) < 1e-5


def test_only_torch_runs_it(fitted: RLM, cells: tuple) -> None:
    other = RLM(MODEL, QUICK, DecodingConfig(encoder_runtime="onnxruntime")).fit(
        cells[0][:20], cells[1][["params"]][:20]
    )
    with pytest.raises(UsageError, match="only the wired encoder runs on ONNX Runtime"):
        other.predict(cells[0][:2])
