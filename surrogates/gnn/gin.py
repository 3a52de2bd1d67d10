"""Graph isomorphism network (Xu et al., ICLR 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from surrogates.gnn.encoding import GraphBatch
from surrogates.gnn.layers import Head, NodeEmbedding, Readout, Sizes, both_ways, readout
from surrogates.gnn.surrogate import GraphSurrogate


@dataclass(frozen=True)
class GINConfig:
    """Shape of the network.

    Attributes:
        width: Hidden size.
        layers: Layers, each a perceptron of one hidden layer on the sum of a node and its neighbours.
        head: Hidden layers of the perceptron after the readout.
        readout: ``mean`` of all nodes, the ``output``'s vector, or ``both`` in equal parts.
        dropout: Dropout rate after each layer.
        directed: Wires lead forward only; otherwise each layer adds what comes in and what goes out.
    """

    width: int = 128
    layers: int = 3
    head: tuple[int, ...] = (128,)
    readout: Readout = "mean"
    dropout: float = 0.1
    directed: bool = False

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network."""
        return GINNetwork(self, sizes)


class GINNetwork(nn.Module):
    """Embedding, layers with layer norm, readout, perceptron."""

    def __init__(self, config: GINConfig, sizes: Sizes) -> None:
        from torch_geometric.nn.dense import DenseGINConv

        super().__init__()
        self.config = config
        width = config.width
        self.embedding = NodeEmbedding(sizes, width)
        self.layers = nn.ModuleList(
            DenseGINConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)), train_eps=True)
            for _ in range(config.layers)
        )
        # The paper's batch norm would make a prediction depend on the training batch; sums still need taming.
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(width, sizes, config.head, config.dropout)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scores ``(b, m)``."""
        adjacency = batch.adjacency if self.config.directed else both_ways(batch.adjacency)
        x = self.embedding(batch)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(torch.relu(norm(layer(x, adjacency)))) * batch.mask
        return self.head(readout(x, batch, self.config.readout), batch.inputs)


class GIN(GraphSurrogate[GINConfig]):
    """The graph isomorphism network baseline; see ``GraphSurrogate``."""

    name: ClassVar[str] = "gin"
    settings: ClassVar[type[GINConfig]] = GINConfig
