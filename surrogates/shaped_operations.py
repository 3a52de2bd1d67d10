"""How often a network runs each operation at each shape: what a latency adds up over.

A table of latencies by operation and shape, as FBNet and Once-for-all look them up for a device, is linear in
these counts; so is what a block of each stage is worth, where blocks of a stage have shapes of their own. They need no
genome: any ONNX graph has them.

Two readings: ``operators`` counts every operator, those inside functions one by one; ``calls`` counts what the main
graph calls, a function known by the operators inside, whatever it is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
import onnx

from search_spaces.networks import Networks
from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body, propagate
from surrogates.sources import Source, sources

Reading = Literal["operators", "calls"]
READINGS: tuple[Reading, ...] = get_args(Reading)


def by_reading(graphs: Sequence[onnx.ModelProto]) -> dict[Reading, list[Counter[str]]]:
    """How often each operation occurs in each of ``n`` models, by a text that stands for what it does and its shapes.

    Those of ``Networks`` are remembered by architecture.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    if isinstance(graphs, Networks):
        found = [_of_source(source) for source in sources(graphs)]
    else:
        found = [_of_body(propagate(model)) for model in graphs]
    return {reading: [one[reading] for one in found] for reading in READINGS}


def vocabulary(counted: Sequence[Mapping[str, int]]) -> tuple[str, ...]:
    """What occurs in any of ``counted``, sorted; of operations that always occur equally often the first."""
    every = tuple(sorted(set().union(*counted)))
    if not every:
        return ()
    _, first = np.unique(matrix(counted, every), axis=1, return_index=True)
    return tuple(every[k] for k in sorted(first))


def matrix(counted: Sequence[Mapping[str, int]], operations: Sequence[str]) -> np.ndarray:
    """How often each of ``operations`` occurs, ``(n, m)``; others are passed over."""
    place = {operation: k for k, operation in enumerate(operations)}
    found = np.zeros((len(counted), len(operations)))
    for row, counts in zip(found, counted, strict=True):
        for operation, count in counts.items():
            if operation in place:
                row[place[operation]] = count
    return found


@lru_cache(maxsize=1 << 16)
def _of_source(source: Source) -> dict[Reading, Counter[str]]:
    return _of_body(propagate(source.model()))


def _of_body(body: ShapedBody) -> dict[Reading, Counter[str]]:
    return {"operators": _operators(body), "calls": Counter(_called(node) for node in _working(body))}


def _working(body: ShapedBody) -> Iterator[ShapedNode]:
    """The nodes that compute something."""
    return (node for node in body.nodes if node.node.op_type != "Constant")


@kept_with_body
def _operators(body: ShapedBody) -> Counter[str]:
    """Operators of a body, and of those that it calls."""
    found = Counter[str]()
    for node in _working(body):
        found.update([_print(node.content, node)] if node.body is None else _operators(node.body))
    return found


def _called(node: ShapedNode) -> str:
    inside = node.content if node.body is None else repr(sorted(_operators(node.body).items())).encode()
    return _print(inside, node)


def _print(content: bytes, node: ShapedNode) -> str:
    """A text for an operation and the shapes that it reads and writes."""
    shapes = [None if tensor is None else tensor.shape for tensor in (*node.inputs, *node.outputs)]
    return blake2b(content + repr(shapes).encode(), digest_size=8).hexdigest()
