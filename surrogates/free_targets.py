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
    LiveCounts,
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
#: What a device runs, dead operations too, besides ``log_params`` and ``log_macs``.
WHOLE_TARGETS = ("operations", "log_bytes", *KINDS)


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
    return pd.DataFrame([_live(found) for found in _counts(graphs)], columns=list(TARGETS), dtype=float)


def whole_targets(graphs: Sequence[onnx.ModelProto]) -> pd.DataFrame:
    """What ``free_targets`` counts over live operations, over all of them: ``n`` rows, columns ``WHOLE_TARGETS``.

    - ``operations``: with weights.
    - ``log_bytes``: bytes written.
    - ``pointwise_convs`` and the like: operators by kind.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    rows = [
        (float(found.total[WEIGHTED]), float(np.log1p(found.total[WRITTEN])), *found.total[FIRST_KIND:].tolist())
        for found in _counts(graphs)
    ]
    return pd.DataFrame(rows, columns=list(WHOLE_TARGETS), dtype=float)


def count_sets(graphs: Sequence[onnx.ModelProto]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of ``n`` models in three sets, ``(n, m)`` each: of their live parts, of the whole, and all together.

    Accuracy follows from the first. Latency does from the second, where a device runs what it is given, or from the
    first, where its runtime leaves dead operations out.
    """
    live, whole = free_targets(graphs).to_numpy(), whole_targets(graphs).to_numpy()
    return live, np.hstack([live[:, :2], whole]), np.hstack([live, whole])


def _counts(graphs: Sequence[onnx.ModelProto]) -> list[LiveCounts]:
    if isinstance(graphs, Networks):
        return [_of_source(source) for source in sources(graphs)]
    return [live_counts(propagate(model)) for model in graphs]


@lru_cache(maxsize=1 << 16)
def _of_source(source: Source) -> LiveCounts:
    return live_counts(propagate(source.model()))


def _live(found: LiveCounts) -> tuple[float, ...]:
    logs = np.log1p(
        [
            found.total[PARAMETERS],
            found.total[MACS],
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
