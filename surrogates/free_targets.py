"""Regression targets that cost nothing: what can be counted on a graph, to learn from besides measured labels.

A model that can tell how many operations of a network matter, and how deep it is, has learned to follow the wires
through dead branches and repeated cells; accuracy depends on just that. Every number is of the network's *live* part:
operations that write zeros, read zeros only or do not reach the output are left out, except in ``params`` and ``macs``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pandas as pd

from surrogates.gnn.graph_data import INPUT, RawGraph, read

#: What is counted; logarithms where numbers span orders of magnitude.
TARGETS = (
    "log_params",
    "log_macs",
    "live_log_params",
    "live_log_macs",
    "live_operations",
    "live_depth",
    "live_log_paths",
    "live_path_length",
)
_PARAMETERS, _MACS = 2, 3  # positions in ``RawGraph.sizes``


def free_targets(graphs: Sequence[onnx.ModelProto]) -> pd.DataFrame:
    """The targets of ``n`` models, one row a model, columns ``TARGETS``.

    ``live_operations`` counts live operations with weights, ``live_depth`` those on the longest path,
    ``live_path_length`` their mean number over all paths from input to output, ``live_log_paths`` is the logarithm of
    the number of paths.

    Raises:
        InvalidGraphError: Shapes that cannot be inferred.
    """
    return pd.DataFrame([_count(graph) for (graph,) in read(graphs, "full")], columns=list(TARGETS), dtype=float)


def _count(graph: RawGraph) -> list[float]:
    sizes, dead = np.array(graph.sizes), graph.dead
    live = np.array([node not in dead for node in range(len(graph.operations))])
    parameters, macs = np.expm1(sizes[:, _PARAMETERS]), np.expm1(sizes[:, _MACS])
    feeding: list[list[int]] = [[] for _ in graph.operations]
    for source, target in graph.edges:
        if live[source] and live[target]:
            feeding[target].append(source)
    # Output is node 0 but comes last; all others stand in topological order. Paths are counted in floating point.
    depth, paths, lengths = np.zeros(len(live)), np.zeros(len(live)), np.zeros(len(live))
    for node in [*range(1, len(live)), 0]:
        if graph.operations[node].startswith(INPUT):
            paths[node] = 1.0
        elif feeding[node]:
            weight = float(parameters[node] > 0)
            depth[node] = weight + max(depth[source] for source in feeding[node])
            paths[node] = sum(paths[source] for source in feeding[node])
            lengths[node] = weight + sum(paths[s] * lengths[s] for s in feeding[node]) / (paths[node] or 1.0)
    return [
        math.log1p(parameters.sum()),
        math.log1p(macs.sum()),
        math.log1p(parameters[live].sum()),
        math.log1p(macs[live].sum()),
        float((parameters[live] > 0).sum()),
        float(depth[0]),
        math.log1p(paths[0]),
        float(lengths[0]),
    ]
