"""A predictor in the style of FLAN (Akhauri & Abdelfattah, arXiv 2403.02484), written from the paper's description.

Two stacks, dense graph flow and graph attention, carry information forward along the wires; a backward stack carries it
from the output to the operations, whose embeddings a perceptron updates before the next time step, as gradients update
the weights of a network in training (TA-GATES, Ning et al., NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.errors import UsageError
from surrogates.gnn.encoding import GraphBatch
from surrogates.gnn.layers import (
    DenseGraphFlow,
    GatedAttention,
    Head,
    NodeEmbedding,
    Readout,
    Sizes,
    both_ways,
    readout,
)
from surrogates.gnn.surrogate import GraphSurrogate


@dataclass(frozen=True)
class FLANConfig:
    """Shape of the network; the defaults are the paper's.

    Attributes:
        operation: Size of an operation's embedding.
        hidden: Size of a node's vector before the first layer.
        layers: Sizes of the forward graph layers.
        backward: Sizes of the backward graph layers (dense graph flow).
        head: Hidden layers of the perceptron after the readout.
        timesteps: Forward passes; a backward pass and an update of the operations lie between two.
        flow: Use dense graph flow.
        attention: Use graph attention; both form an ensemble.
        readout: The ``output``'s vector, the ``mean`` of all nodes, or ``both`` in equal parts.
        dropout: Dropout rate after each graph layer but the last.
        directed: Forward layers follow the wires, as in the paper; otherwise they read them both ways.
    """

    operation: int = 48
    hidden: int = 96
    layers: tuple[int, ...] = (128,) * 5
    backward: tuple[int, ...] = (128,) * 5
    head: tuple[int, ...] = (200,) * 3
    timesteps: int = 2
    flow: bool = True
    attention: bool = True
    readout: Readout = "output"
    dropout: float = 0.0
    directed: bool = True

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network."""
        return FLANNetwork(self, sizes)


class Stack(nn.Module):
    """Graph layers of flow, attention, or the mean of both.

    Args:
        before: Width of the nodes.
        widths: Widths after each layer.
        operation: Width of the operations, which gate every layer.
        flow: Use dense graph flow.
        attention: Use graph attention.
        dropout: Dropout rate between layers.
    """

    def __init__(
        self, before: int, widths: Sequence[int], operation: int, *, flow: bool, attention: bool, dropout: float
    ) -> None:
        super().__init__()
        if not flow and not attention:
            raise UsageError("FLANConfig needs flow=True, attention=True, or both")
        sizes = list(zip((before, *widths), widths, strict=False))
        self.widths = [*widths] * (flow + attention)
        self.flow = nn.ModuleList(DenseGraphFlow(a, b) for a, b in sizes) if flow else None
        self.attention = nn.ModuleList(GatedAttention(a, b) for a, b in sizes) if attention else None
        self.gates = nn.Linear(operation, sum(self.widths))
        self.dropout = nn.Dropout(dropout)
        self.depth = len(widths)

    def forward(self, x: Tensor, adjacency: Tensor, absent: Tensor, operations: Tensor) -> Tensor:
        """Node vectors ``(b, n, widths[-1])``."""
        gates = torch.split(torch.sigmoid(self.gates(operations)), self.widths, dim=-1)
        for depth in range(self.depth):
            results = []
            if self.flow is not None:
                results.append(self.flow[depth](x, adjacency, gates[depth]))
            if self.attention is not None:
                results.append(self.attention[depth](x, absent, gates[depth - self.depth]))
            x = torch.lerp(results[0], results[-1], 0.5) if len(results) == 2 else results[0]
            if depth < self.depth - 1:
                x = self.dropout(torch.relu(x))
        return x


class FLANNetwork(nn.Module):
    """Time steps of forward and backward passes, readout, perceptron."""

    def __init__(self, config: FLANConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        width, hidden, operation = config.layers[-1], config.hidden, config.operation
        self.embedding = NodeEmbedding(sizes, operation)
        self.place = nn.Embedding(2, operation)  # whether anything feeds a node
        self.enter = nn.Linear(2 * operation, hidden)
        kinds = {"flow": config.flow, "attention": config.attention}
        self.onward = Stack(hidden, config.layers, operation, **kinds, dropout=config.dropout)
        if config.timesteps > 1:
            self.turn = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            self.back = Stack(hidden, config.backward, operation, flow=True, attention=False, dropout=config.dropout)
            together = operation + width + config.backward[-1]
            self.update = nn.Sequential(nn.Linear(together, hidden), nn.ReLU(), nn.Linear(hidden, operation))
        self.head = Head(width, sizes, config.head, 0.0)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scores ``(b, m)``."""
        operations = self.embedding(batch)
        place = self.place((batch.adjacency.sum(dim=2) > 0).long())
        start = self.enter(torch.cat([place, operations], dim=-1)) * batch.mask
        adjacency = batch.adjacency if self.config.directed else both_ways(batch.adjacency)
        backwards = batch.adjacency.transpose(1, 2)
        wired = adjacency + torch.eye(adjacency.shape[1])
        absent = torch.where(wired > 0, 0.0, float("-inf"))
        x = self.onward(start, adjacency, absent, operations) * batch.mask
        for _ in range(self.config.timesteps - 1):
            seed = torch.zeros_like(start)
            seed[:, 0] = self.turn(readout(x, batch, self.config.readout))
            y = self.back(seed, backwards, absent, operations)
            operations = operations + self.update(torch.cat([operations, x, y], dim=-1)) * batch.mask
            x = self.onward(start, adjacency, absent, operations) * batch.mask
        return self.head(readout(x, batch, self.config.readout), batch.inputs)


class FLAN(GraphSurrogate[FLANConfig]):
    """The FLAN-style baseline; see ``GraphSurrogate``. Zero-cost proxies enter by ``TrainingConfig.inputs``."""

    name: ClassVar[str] = "flan"
    settings: ClassVar[type[FLANConfig]] = FLANConfig
