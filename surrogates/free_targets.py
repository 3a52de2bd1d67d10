"""Regression targets that cost nothing: what can be counted on a graph, to learn from besides measured labels.

A model that can tell how many operations of a network matter, and how deep it is, has learned to follow the wires
through dead branches and repeated cells; accuracy depends on just that. Every number is of the network's *live* part:
operations that write zeros, read zeros only or do not reach the output are left out, except in ``params`` and ``macs``.
See ``surrogates.live_counts`` for how they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx
import pandas as pd

from search_spaces.networks import Networks
from search_spaces.shapes import propagate
from surrogates.live_counts import (
    CRITICAL,
    DEPTH,
    FIRST_KIND,
    MACS,
    PARAMETERS,
    REACH,
    WEIGHTED,
    WRITTEN,
    live_counts,
)
from surrogates.operator_kinds import KINDS
from surrogates.sources import Source, sources

#: What is counted; logarithms, ``log(1 + x)``, where numbers span orders of magnitude.
TARGETS = (
    "log_params",
    "log_macs",
    "live_log_params",
    "live_log_macs",
    "live_operations",
    "live_depth",
    "live_log_paths",
    "live_path_length",
    "live_log_bytes",
    "live_log_critical_macs",
    "live_log_reach",
    *(f"live_{kind}" for kind in KINDS),
)


def free_targets(graphs: Sequence[onnx.ModelProto]) -> pd.DataFrame:
    """The targets of ``n`` models, one row a model, columns ``TARGETS``.

    - ``log_params``, ``log_macs``: weights (running statistics included) and multiply-accumulates of all operations.
    - ``live_log_params``, ``live_log_macs``: those of the live operations.
    - ``live_operations``: live operations with weights; ``live_depth``: those on the longest path;
      ``live_path_length``: their mean number over all paths from input to output.
    - ``live_log_paths``: paths from input to output.
    - ``live_log_bytes``: bytes that live operations write for one image in float32, every operator inside a block.
    - ``live_log_critical_macs``: MACs on the path that has most of them, what parallel hardware cannot hide.
    - ``live_log_reach``: the largest receptive field of all paths, as a multiple of the image's side; windows of
      convolutions and poolings count, pooling of the whole map does not.
    - ``live_pointwise_convs`` (1x1), ``live_convs`` (larger windows), ``live_depthwise_convs`` (any window),
      ``live_pools``, ``live_skips`` (identities written as operators), ``live_linear``: live operators by kind, those
      inside blocks one by one.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    if isinstance(graphs, Networks):
        rows = [_of_source(source) for source in sources(graphs)]
    else:
        rows = [_count(model) for model in graphs]
    return pd.DataFrame(rows, columns=list(TARGETS), dtype=float)


@lru_cache(maxsize=1 << 16)
def _of_source(source: Source) -> tuple[float, ...]:
    return _count(source.model())


def _count(model: onnx.ModelProto) -> tuple[float, ...]:
    found = live_counts(propagate(model))
    logs = np.log1p(
        [
            found.parameters,
            found.macs,
            found.live[PARAMETERS],
            found.live[MACS],
            found.paths,
            found.live[WRITTEN],
            found.longest[CRITICAL],
            found.longest[REACH],
        ]
    ).tolist()
    return (
        *logs[:4],
        float(found.live[WEIGHTED]),
        float(found.longest[DEPTH]),
        logs[4],
        float(found.length),
        *logs[5:],
        *found.live[FIRST_KIND:].tolist(),
    )
