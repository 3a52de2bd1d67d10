"""Layers and ends that several networks share; the convolutions themselves are torch-geometric's dense ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from search_spaces.errors import UsageError
from surrogates.gnn.encoding import GraphBatch

Readout = Literal["mean", "output", "both"]


class Sizes(NamedTuple):
    """What a network must know of the data.

    Attributes:
        words: Vocabulary indices.
        features: Features a node.
        inputs: Known values a graph.
        outputs: Metrics to score.
        nodes: Most nodes of a training graph.
    """

    words: int
    features: int
    inputs: int
    outputs: int
    nodes: int


class NodeEmbedding(nn.Module):
    """Operation and features of every node as one vector: ``(b, n, width)``, zero for padding."""

    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.operation = nn.Embedding(sizes.words, width)  # a node may be named by several words
        self.features = nn.Linear(sizes.features, width, bias=False) if sizes.features else None

    def forward(self, batch: GraphBatch) -> Tensor:
        x = batch.operations @ self.operation.weight
        return x if self.features is None else x + self.features(batch.features)


class Head(nn.Module):
    """A perceptron from graph vectors ``(b, width)`` and known values to scores ``(b, outputs)``."""

    def __init__(self, width: int, sizes: Sizes, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.inputs = nn.Linear(sizes.inputs, width) if sizes.inputs else None
        widths = (width * 2 if sizes.inputs else width, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], sizes.outputs))

    def forward(self, x: Tensor, inputs: Tensor) -> Tensor:
        if self.inputs is not None:
            x = torch.cat([x, torch.relu(self.inputs(inputs))], dim=-1)
        return self.layers(x)


class DenseGraphFlow(nn.Module):
    """Dense graph flow (Ning et al., arXiv 2004.01899; FLAN, arXiv 2403.02484).

    ``g * (A X W) + X W + b``: the gate ``g`` of the target's operation decides what flows in, and a residual term keeps
    nodes apart over many layers.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.flow = nn.Linear(before, after, bias=False)
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor, adjacency: Tensor, gate: Tensor) -> Tensor:
        """Nodes ``(b, n, before)``, ``adjacency[b, target, source]``, gates ``(b, n, after)`` to ``(b, n, after)``."""
        x = self.flow(x)
        return torch.addcmul(x + self.bias, gate, torch.bmm(adjacency, x))


class GatedAttention(nn.Module):
    """Graph attention (Veličković et al., ICLR 2018) of one head, gated and with layer norm (FLAN, section 3.2).

    Written out because it runs thirty times in a pass on graphs of eight nodes, where the calls are the cost.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.project = nn.Linear(before, after, bias=False)
        self.attend = nn.Linear(after, 2, bias=False)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor, absent: Tensor, gate: Tensor) -> Tensor:
        """As ``DenseGraphFlow``; ``absent[b, target, source]`` is -inf where no wire is."""
        x = self.project(x)
        source, target = self.attend(x).unbind(dim=-1)
        weights = nn.functional.leaky_relu(target[:, :, None] + source[:, None, :], 0.2) + absent
        return self.norm(gate * torch.bmm(weights.softmax(dim=-1), x))


def readout(x: Tensor, batch: GraphBatch, kind: Readout) -> Tensor:
    """Graph vectors of node vectors ``(b, n, width)``: their mean, the output's, or halfway between.

    Raises:
        UsageError: An unknown kind.
    """
    if kind == "output":
        return x[:, 0]
    mean = (x * batch.mask).sum(dim=1) / batch.mask.sum(dim=1)
    if kind == "mean":
        return mean
    if kind == "both":
        return torch.lerp(mean, x[:, 0], 0.5)
    raise UsageError(f"unknown readout {kind!r}; choose from: mean, output, both")


def both_ways(adjacency: Tensor) -> Tensor:
    """Wires without direction."""
    return torch.maximum(adjacency, adjacency.transpose(1, 2))
