"""What touches the result of a network: counted once per function body, composed through its calls.

The *live* part of a network are the operations that some input flows into and that the output depends on; what writes
zeros, reads zeros only or is not read does not belong to it. The reading is that of ``surrogates.gnn.graph_data``
(``full``): calls of leaf functions and bare operators are nodes, other functions are looked into. There a network of
twenty cells has twenty times the nodes of one; here a body is walked once for each way it is called, and what it does
to numbers of paths and to longest paths is a linear and a max-plus map that a call applies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from search_spaces.analysis import node_macs
from search_spaces.shapes import ShapedBody, ShapedNode, kept_with_body
from surrogates.gnn.graph_data import _is_leaf as is_leaf
from surrogates.gnn.graph_data import _is_zero as is_zero
from surrogates.operator_kinds import KINDS, kind_of, reach_of

#: Bytes of an activation: float32.
BYTES = 4
#: Places of what is counted over nodes: parameters (running statistics of batch norms included), MACs, nodes with
#: weights, bytes written; operators by kind.
PARAMETERS, MACS, WEIGHTED, WRITTEN, FIRST_KIND = 0, 1, 2, 3, 4
COUNTS = FIRST_KIND + len(KINDS)
#: What the longest paths are measured by: nodes with weights, MACs, receptive field.
DEPTH, CRITICAL, REACH = 0, 1, 2


@dataclass(frozen=True)
class LiveCounts:
    """Counts of one network.

    Attributes:
        total: ``(COUNTS,)``, of all nodes, live or not.
        live: ``(COUNTS,)``, of the live nodes.
        longest: ``(3,)``, the longest path from an input to the output by ``DEPTH``, ``CRITICAL``, ``REACH``.
        paths: Number of live paths from an input to the output.
        length: Mean number of nodes with weights over those paths.
    """

    total: np.ndarray
    live: np.ndarray
    longest: np.ndarray
    paths: float
    length: float


class _Value(NamedTuple):
    """A node inside a body, as a map of the ``k`` inputs of the body.

    Attributes:
        paths: Per input, paths from it.
        lengths: Per input, nodes with weights on those paths, summed over them.
        longest: Three times, per input, the longest path from it; minus infinity where there is none.
    """

    # Plain tuples: k is 1 or 2 most of the time, where arrays cost more than they save.
    paths: tuple[float, ...]
    lengths: tuple[float, ...]
    longest: tuple[tuple[float, ...], ...]


class _Facts(NamedTuple):
    """What is known of a node wherever it stands: weights, MACs and growth of the receptive field."""

    weights: int
    macs: int
    reach: float


_NO_FACTS = _Facts(0, 0, 0.0)


class _Step(NamedTuple):
    """A node through which something flows.

    Attributes:
        node: The node.
        facts: Its facts; none for an expanded call.
        sources: Its distinct flowing sources, numbers of values; for an expanded call in the order of its groups.
        written: Numbers of the values it writes, one for each distinct inner value for an expanded call.
        groups: For an expanded call, which source each computed input reads (-1: none that flows); else None.
        inner: For an expanded call, the output of the callee that each written value stands for.
    """

    node: ShapedNode
    facts: _Facts
    sources: tuple[int, ...]
    written: tuple[int, ...]
    groups: tuple[int, ...] | None = None
    inner: tuple[int, ...] = ()


class _Walked(NamedTuple):
    """A body, walked forwards for one way of calling it.

    Attributes:
        values: Inputs first, then what the steps write.
        steps: In topological order.
        outputs: Number of the value of each output; -1 where nothing flows.
        inputs: How many of the values are inputs.
    """

    values: tuple[_Value, ...]
    steps: tuple[_Step, ...]
    outputs: tuple[int, ...]
    inputs: int


def live_counts(body: ShapedBody) -> LiveCounts:
    """The counts of a main graph; equal to those on its ``full`` reading up to rounding."""
    groups = tuple(range(len(body.computed)))
    walked = _walk(body, groups)
    used = tuple(sorted({output for output in walked.outputs if output >= 0}))
    ends = [walked.values[number] for number in used]
    paths = float(sum(sum(value.paths) for value in ends))
    lengths = float(sum(sum(value.lengths) for value in ends))
    longest = np.max([value.longest for value in ends], axis=(0, 2)) if ends else np.zeros(3)
    live, _ = _backwards(body, groups, used)
    return LiveCounts(_totals(body), live, longest, paths, lengths / paths if paths else 0.0)


@kept_with_body
def _walk(body: ShapedBody, groups: tuple[int, ...]) -> _Walked:
    """Forwards: what flows where.

    Args:
        body: A graph or function.
        groups: For each of ``body.computed`` the number of the value that stands there: calls may pass one value
            twice, which makes one wire. -1 where nothing flows.
    """
    count = 1 + max(groups, default=-1)
    nothing = (0.0,) * count
    values: list[_Value] = []
    for own in range(count):
        start = tuple([0.0 if k == own else -math.inf for k in range(count)])
        values.append(_Value(tuple([float(k == own) for k in range(count)]), nothing, (start,) * 3))
    known = {body.inputs[i]: group for i, group in zip(body.computed, groups, strict=True) if group >= 0}
    steps: list[_Step] = []
    for node, facts in zip(body.nodes, _facts(body), strict=True):
        if node.node.op_type == "Constant":
            continue
        if node.body is not None and not is_leaf(node.body):
            _expand(node, node.body, known, values, steps)
            continue
        sources = tuple(dict.fromkeys([known[name] for name in node.names if name in known]))
        if not sources or is_zero(node):
            continue
        values.append(_joined([values[source] for source in sources], facts))
        steps.append(_Step(node, facts, sources, (len(values) - 1,)))
        known.update(dict.fromkeys(node.results, len(values) - 1))
    return _Walked(tuple(values), tuple(steps), tuple([known.get(name, -1) for name in body.outputs]), count)


def _joined(read: Sequence[_Value], facts: _Facts) -> _Value:
    """What a node writes that reads the distinct values ``read``."""
    weighted = float(facts.weights > 0)
    if len(read) == 1:
        paths, lengths, longest = read[0]
    else:
        paths = tuple([sum(each) for each in zip(*[value.paths for value in read], strict=True)])
        lengths = tuple([sum(each) for each in zip(*[value.lengths for value in read], strict=True)])
        by_kind = zip(*[value.longest for value in read], strict=True)
        longest = tuple([tuple([max(each) for each in zip(*kind, strict=True)]) for kind in by_kind])
    gains = (weighted, float(facts.macs), facts.reach)
    return _Value(
        paths,
        tuple([length + weighted * ways for length, ways in zip(lengths, paths, strict=True)]),
        tuple([tuple([way + gain for way in kind]) for kind, gain in zip(longest, gains, strict=True)]),
    )


def _expand(
    node: ShapedNode, body: ShapedBody, known: dict[str, int], values: list[_Value], steps: list[_Step]
) -> None:
    """Walk a call of a function that calls functions; its outputs join ``values`` and ``known``."""
    actual = [known.get(node.names[i], -1) if i < len(node.names) else -1 for i in body.computed]
    sources = tuple(dict.fromkeys(number for number in actual if number >= 0))
    if not sources:
        return
    groups = tuple(sources.index(number) if number >= 0 else -1 for number in actual)
    walked = _walk(body, groups)
    read = [values[source] for source in sources]
    place: dict[int, int] = dict(enumerate(sources))  # an output may be an input passed through
    inner = tuple(dict.fromkeys(output for output in walked.outputs if output >= walked.inputs))
    first = len(values)
    for output in inner:
        place[output] = len(values)
        values.append(_composed(walked.values[output], read))
    for name, output in zip(node.results, walked.outputs, strict=False):
        if output >= 0:
            known[name] = place[output]
    steps.append(_Step(node, _NO_FACTS, sources, tuple(range(first, len(values))), groups, inner))


def _composed(value: _Value, read: Sequence[_Value]) -> _Value:
    """``value`` of a callee as a map of the caller's inputs, where its own inputs are ``read``."""
    inputs = range(len(read[0].paths))
    paths = tuple([sum([own * source.paths[k] for own, source in zip(value.paths, read, strict=True)]) for k in inputs])
    lengths = [
        sum(
            [
                own * source.lengths[k] + length * source.paths[k]
                for own, length, source in zip(value.paths, value.lengths, read, strict=True)
            ]
        )
        for k in inputs
    ]
    longest = [
        tuple([max([way + source.longest[kind][k] for way, source in zip(ways, read, strict=True)]) for k in inputs])
        for kind, ways in enumerate(value.longest)
    ]
    return _Value(paths, tuple(lengths), tuple(longest))


@kept_with_body
def _backwards(body: ShapedBody, groups: tuple[int, ...], used: tuple[int, ...]) -> tuple[np.ndarray, frozenset[int]]:
    """Counts of the nodes that the values ``used`` depend on, and the inputs they depend on."""
    walked, needed, total = _walk(body, groups), set(used), np.zeros(COUNTS)
    for step in reversed(walked.steps):
        wanted = [k for k, number in enumerate(step.written) if number in needed]
        if not wanted:
            continue
        if step.groups is None:
            total += _node_counts(step.node, step.facts)
            needed.update(step.sources)
        else:
            assert step.node.body is not None
            counts, inputs = _backwards(step.node.body, step.groups, tuple(sorted(step.inner[k] for k in wanted)))
            total += counts
            needed.update(step.sources[k] for k in inputs)
    return total, frozenset(number for number in needed if number < walked.inputs)


@kept_with_body
def _totals(body: ShapedBody) -> np.ndarray:
    """Counts of all nodes."""
    total = np.zeros(COUNTS)
    for node, facts in zip(body.nodes, _facts(body), strict=True):
        expanded = node.body is not None and not is_leaf(node.body)
        total += _totals(node.body) if expanded and node.body is not None else _node_counts(node, facts)
    return total


@kept_with_body
def _facts(body: ShapedBody) -> tuple[_Facts, ...]:
    """Facts of the nodes of ``body``; nothing of those that are looked into."""
    return tuple(
        [
            _NO_FACTS
            if node.body is not None and not is_leaf(node.body)
            else _Facts(
                sum([tensor.size for tensor in node.inputs if tensor is not None and tensor.parameter]),
                node_macs(node),
                reach_of(node),
            )
            for node in body.nodes
        ]
    )


def _node_counts(node: ShapedNode, facts: _Facts) -> np.ndarray:
    """The ``COUNTS`` of a bare operator or of a call of a leaf function."""
    counts = _operator_counts([node]) if node.body is None else _leaf_counts(node.body).copy()
    counts[:WRITTEN] = facts.weights, facts.macs, facts.weights > 0
    return counts


@kept_with_body
def _leaf_counts(body: ShapedBody) -> np.ndarray:
    return _operator_counts(body.nodes)


def _operator_counts(nodes: Iterable[ShapedNode]) -> np.ndarray:
    counts = np.zeros(COUNTS)
    for node in nodes:
        if node.node.op_type == "Constant":
            continue
        counts[WRITTEN] += BYTES * sum(tensor.size for tensor in node.outputs)
        kind = kind_of(node)
        if kind:
            counts[FIRST_KIND + KINDS.index(kind)] += 1
    return counts
