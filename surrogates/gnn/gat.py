"""Graph attention network (Veličković et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from surrogates.gnn.encoding import GraphBatch
from surrogates.gnn.layers import Head, NodeEmbedding, Readout, Sizes, both_ways, readout
from surrogates.gnn.surrogate import GraphSurrogate


@dataclass(frozen=True)
class GATConfig:
    """Shape of the network.

    Attributes:
        width: Hidden size, shared by the heads of a layer.
        layers: Attention layers.
        heads: Attention heads; ``width`` must be a multiple.
        head: Hidden layers of the perceptron after the readout.
        readout: ``mean`` of all nodes, the ``output``'s vector, or ``both`` in equal parts.
        dropout: Dropout rate after each layer.
        directed: Wires lead forward only; otherwise both ways.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    head: tuple[int, ...] = (128,)
    readout: Readout = "mean"
    dropout: float = 0.1
    directed: bool = False

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network."""
        return GATNetwork(self, sizes)


class GATNetwork(nn.Module):
    """Embedding, residual attention layers with layer norm, readout, perceptron."""

    def __init__(self, config: GATConfig, sizes: Sizes) -> None:
        from torch_geometric.nn.dense import DenseGATConv

        super().__init__()
        self.config = config
        self.embedding = NodeEmbedding(sizes, config.width)
        self.layers = nn.ModuleList(
            DenseGATConv(config.width, config.width // config.heads, heads=config.heads) for _ in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(config.width, sizes, config.head, config.dropout)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scores ``(b, m)``."""
        adjacency = batch.adjacency if self.config.directed else both_ways(batch.adjacency)
        x = self.embedding(batch)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = (x + self.dropout(torch.relu(norm(layer(x, adjacency))))) * batch.mask
        return self.head(readout(x, batch, self.config.readout), batch.inputs)


class GAT(GraphSurrogate[GATConfig]):
    """The graph attention baseline; see ``GraphSurrogate``."""

    name: ClassVar[str] = "gat"
    settings: ClassVar[type[GATConfig]] = GATConfig
