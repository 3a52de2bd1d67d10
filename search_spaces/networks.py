"""Many networks of one space as a sequence that builds each ONNX model when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import onnx

from search_spaces.base import Architecture, SearchSpace

#: Draws after which a space is taken to be used up, for each network asked for.
_DRAWS = 4


class Networks(Sequence[onnx.ModelProto]):
    """The ONNX models of ``architectures``, built on access and not kept.

    A surrogate takes it wherever it takes a list of models. One that wants more than the graph (a genome, or a key to
    cache what it made of a graph) finds ``space`` and ``architectures`` here.

    Args:
        space: Their search space.
        architectures: Valid architectures of ``space``.
    """

    def __init__(self, space: SearchSpace, architectures: Sequence[Architecture]) -> None:
        self.space = space
        self.architectures = tuple(architectures)

    def __len__(self) -> int:
        return len(self.architectures)

    @overload
    def __getitem__(self, index: int) -> onnx.ModelProto: ...
    @overload
    def __getitem__(self, index: slice) -> Networks: ...
    def __getitem__(self, index: int | slice) -> onnx.ModelProto | Networks:
        if isinstance(index, slice):
            return Networks(self.space, self.architectures[index])
        return self.space.to_onnx(self.architectures[index])


def sample_networks(space: SearchSpace, count: int, *, seed: int, known: Iterable[Architecture] = ()) -> Networks:
    """Up to ``count`` networks, no two of them functionally identical, nor any to one of ``known``.

    A small ``space`` has fewer.
    """
    rng, found = np.random.default_rng([seed, 9]), dict[object, Architecture]()
    seen = {space.canonical(arch) for arch in known}
    for _ in range(_DRAWS * count):
        if len(found) == count:
            break
        arch = space.sample(rng)
        identity = space.canonical(arch)
        if identity not in seen:
            found.setdefault(identity, arch)
    return Networks(space, list(found.values()))
