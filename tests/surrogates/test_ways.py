"""What the ways through a function say about its lines, against ways counted one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import search_spaces
from surrogates.text import linearize
from surrogates.text.parse import Body, sections
from surrogates.text.ways import MOST, WAYS, ways
from surrogates.text.wiring import wiring

#: The second function holds a bare wire, a convolution, one behind it, a call of no layer, and all of them together.
CELL = "\n".join(
    [
        "def",
        "Relu",
        "def",
        "Identity",
        "Conv k3 <2",
        "Conv k1|Relu",
        "F1 <4",
        "Sum <4 2 1",
        "in 4x8x8",
        "F2",
    ]
)


def columns(*names: str) -> list[int]:
    return [WAYS.index(name) for name in names]


def test_a_cell_line_by_line() -> None:
    found = ways(CELL, wiring(CELL))
    third = 1 / 3
    shares = found[3:8, columns("share_0", "share_1", "share_2")]
    expected = [[third, 0, 0], [0, 0, third], [0, 0, third], [third, 0, 0], [2 * third, 0, third]]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    np.testing.assert_allclose(found[3:8, columns("log_to")].ravel(), np.log([1, 1, 1, 1, 3]), atol=1e-6)
    np.testing.assert_allclose(found[3:8, columns("log_onward")], 0, atol=1e-6)
    np.testing.assert_allclose(found[3:8, columns("layers_to")].ravel(), [0, 1, 2, 0, 2 / 3], rtol=1e-6)


def test_the_main_graph_and_headers_have_none() -> None:
    found = ways(CELL, wiring(CELL))
    assert not found[[0, 2, 8, 9]].any()
    assert found[[1, 3]].any()


def test_a_call_of_layers_is_a_layer() -> None:
    text = CELL.replace("def\nRelu", "def\nConv k3")
    assert ways(text, wiring(text))[6, WAYS.index("share_1")] > 0


def test_what_leads_nowhere_has_no_share() -> None:
    text = "def\nRelu\nConv k3 <2\nin 4x8x8\nF1"
    found = ways(text, wiring(text))
    assert not found[1, columns("share_0", "share_1")].any()
    assert found[2, WAYS.index("share_1")] == 1


def test_more_ways_than_numbers_can_count() -> None:
    doubled = "\n".join(["Conv k3", "Conv k3 <2", "Add <2 1"] * 800)
    text = f"def\n{doubled}\nin 4x8x8\nF1"
    found = ways(text, wiring(text))
    assert np.isfinite(found).all()
    assert found[3, WAYS.index("log_to")] == pytest.approx(np.log(2))


def routes(producers: np.ndarray, body: Body) -> Iterator[list[int]]:
    """All ways from the header of ``body`` to its last line, as lines."""

    def back(line: int) -> Iterator[list[int]]:
        if line < body.first:
            yield []
        else:
            for source in np.flatnonzero(producers[line]):
                if source >= body.first - 1:
                    yield from ([*route, line] for route in back(int(source)))

    yield from back(body.first + len(body.lines) - 1)


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "darts", "pnas"])
def test_ways_are_those_counted_one_by_one(name: str) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(1)
    checked = 0
    for _ in range(4):
        text = linearize(space.to_onnx(space.sample(rng)), inlining=False)
        wires = wiring(text)
        found, lines = ways(text, wires), text.split("\n")
        for body in sections(text).functions:
            if any(line.startswith("F") for line in body.lines):
                continue
            every = list(routes(wires.producers, body))
            expected = np.zeros((len(lines), MOST + 1))
            for route in every:
                layers = sum("Conv" in lines[line] for line in route)
                expected[route, min(layers, MOST)] += 1 / len(every)
            span = slice(body.first, body.first + len(body.lines))
            np.testing.assert_allclose(found[span, : MOST + 1], expected[span], rtol=1e-5, atol=1e-6)
            checked += len(every) > 1
    assert checked
