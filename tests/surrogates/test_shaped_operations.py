"""How often each operation occurs at each shape: whatever it is called, wherever it stands, inside functions too."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

import search_spaces
from search_spaces.networks import Networks
from surrogates.shaped_operations import by_reading, matrix, vocabulary

SMALL = """
<ir_version: 9, opset_import: ["" : 20, "own" : 1]>
main (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y) {
  a = own.OUTER (x)
  b = Relu (a)
  h = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  c = Relu (h)
  w = Constant <value = float[2] {1.0, 2.0}> ()
  y = own.OUTER (b)
}
<domain: "own", opset_import: ["" : 20, "own" : 1]>
OUTER (x) => (y) {
  t = own.INNER (x)
  y = own.INNER (t)
}
<domain: "own", opset_import: ["" : 20]>
INNER (x) => (y) {
  t = Relu (x)
  y = Sigmoid (t)
}
"""


def small(**renamed: str) -> onnx.ModelProto:
    text = SMALL
    for old, new in renamed.items():
        text = text.replace(old, new)
    return onnx.parser.parse_model(text)


def test_operators_are_counted_inside_functions_and_by_shape() -> None:
    found = by_reading([small()])
    assert sorted(found["operators"][0].values()) == [1, 1, 4, 5]  # pooled, Relu at half size, Sigmoid, Relu
    assert sorted(found["calls"][0].values()) == [1, 1, 1, 2]  # a constant is no operation


def test_a_function_is_known_by_what_it_does() -> None:
    assert by_reading([small()]) == by_reading([small(OUTER="another", INNER="name")])
    other = by_reading([small(Sigmoid="Tanh")])
    assert other["calls"] != by_reading([small()])["calls"]
    assert other["operators"] != by_reading([small()])["operators"]


@pytest.mark.parametrize("name", ["nasbench201", "fbnet", "darts"])
def test_networks_are_counted_as_their_models_are(name: str) -> None:
    space, rng = search_spaces.get(name), np.random.default_rng(0)
    networks = Networks(space, [space.sample(rng) for _ in range(3)])
    assert by_reading(networks) == by_reading(list(networks))


def test_what_a_process_calls_an_operation_another_does() -> None:
    script = (
        "import search_spaces; from surrogates.shaped_operations import by_reading; s = search_spaces.get('fbnet');"
        "import numpy as np; m = s.to_onnx(s.sample(np.random.default_rng(0)));"
        "print(*sorted(by_reading([m])['calls'][0].items()))"
    )
    once, again = (subprocess.check_output([sys.executable, "-c", script]) for _ in range(2))
    assert once == again != b""


def test_columns() -> None:
    counted = [{"a": 1, "b": 2, "c": 2}, {"a": 3, "d": 1}, {"b": 1, "c": 1}]
    assert vocabulary(counted) == ("a", "b", "d")  # c occurs as often as b
    np.testing.assert_array_equal(matrix(counted, ("d", "b", "e")), [[0, 2, 0], [1, 0, 0], [0, 1, 0]])
    assert vocabulary([{}, {}]) == () and matrix([{}, {}], ()).shape == (2, 0)
