"""The ways through a function: how many pass each line, and how many layers with weights lie on them.

An operation in a cell matters by what else is on its ways: a convolution beside a bare wire is another one than the
same convolution in a chain of three. Messages that travel along the wires and are normalised on arrival cannot count
ways; here they are counted.
"""

from __future__ import annotations

import re

import numpy as np

from surrogates.text.parse import CALL, sections
from surrogates.text.wiring import Wiring

#: Layers with weights that are told apart on one way; more count as so many.
MOST = 5
#: Columns of ``ways``.
WAYS = (*(f"share_{layers}" for layers in range(MOST + 1)), "log_to", "log_onward", "layers_to")
_WEIGHTED = re.compile(r"\b(Conv|ConvTranspose|Gemm|MatMul)\b")
#: Ways are counted no further than this; shares of more would be shares of infinity.
_COUNTLESS = 1e100
_NUMBERS = np.arange(MOST + 1)
#: ``_SUMS[a, b, c]`` is 1 if ``a`` and ``b`` layers are ``c``.
_SUMS = (np.minimum(_NUMBERS[:, None] + _NUMBERS, MOST)[..., None] == _NUMBERS).astype(float)


def ways(text: str, wires: Wiring) -> np.ndarray:
    """What the ways from the inputs of a function to its result say about each of its lines.

    Layers are lines that multiply by weights, and calls of functions that do.

    Args:
        text: A linearised graph.
        wires: Its wiring.

    Returns:
        Float32, shape ``(lines, 9)``, zeros outside of functions. Columns as in ``WAYS``: the share of the function's
        ways that pass the line and hold 0, 1, …, 5 or more layers; natural logarithms of the number of ways from the
        inputs to the line and of those from it to the result; layers on the ways to it, itself included, on average.
    """
    found, weighted = np.zeros((len(wires.producers), len(WAYS)), dtype=np.float32), list[bool]()
    for body in sections(text).functions:
        layers = np.array([_is_layer(line, weighted) for line in body.lines], dtype=int)
        weighted.append(bool(layers.any()))
        span = slice(body.first, body.first + len(body.lines))
        inside = wires.producers[span, span].astype(float)
        to = _ways_to(inside, wires.producers[span, body.first - 1], layers)
        onward = _ways_onward(inside, layers)
        passing = (np.einsum("ia,ib,abc->ic", to, onward, _SUMS) / to[-1].sum()).clip(max=1)
        count, average = to.sum(axis=1), to @ _NUMBERS / to.sum(axis=1)
        found[span] = np.column_stack([passing, np.log(count), np.log(onward.sum(axis=1).clip(min=1)), average])
    return found


def _is_layer(line: str, weighted: list[bool]) -> bool:
    call = CALL.match(line)
    return bool(_WEIGHTED.search(line)) if call is None else weighted[int(call["number"]) - 1]


def _ways_to(producers: np.ndarray, reads_input: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """Ways to each line by the layers on them, ``(lines, MOST + 1)``; a line that reads nothing begins one."""
    to = np.zeros((len(layers), MOST + 1))
    for i, row in enumerate(producers):
        arriving = row @ to
        arriving[0] += reads_input[i] or not row.any()
        to[i] = (arriving @ _SUMS[:, layers[i]]).clip(max=_COUNTLESS)
    return to


def _ways_onward(producers: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """Ways from each line to the last by the layers on them, its own left out, ``(lines, MOST + 1)``."""
    onward = np.zeros((len(layers), MOST + 1))
    onward[-1, 0] = 1
    for i in reversed(range(len(layers))):
        onward[i] = onward[i].clip(max=_COUNTLESS)
        onward += np.outer(producers[i], onward[i] @ _SUMS[:, layers[i]])
    return onward
