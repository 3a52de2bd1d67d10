"""Graph convolutions (Kipf & Welling, ICLR 2017) as BRP-NAS uses them (Dudziak et al., arXiv 2007.08668)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from surrogates.gnn.encoding import GraphBatch
from surrogates.gnn.layers import Head, NodeEmbedding, Readout, Sizes, both_ways, readout
from surrogates.gnn.surrogate import GraphSurrogate


@dataclass(frozen=True)
class GCNConfig:
    """Shape of the network.

    Attributes:
        width: Hidden size; 600 in BRP-NAS, whose accuracy is reached with less.
        layers: Graph convolutions; 4 in BRP-NAS.
        head: Hidden layers of the perceptron after the readout; none in BRP-NAS.
        readout: ``mean`` of all nodes, the ``output``'s vector, or ``both`` in equal parts.
        dropout: Dropout rate after each convolution.
        directed: Wires lead forward only; otherwise both ways.
    """

    width: int = 128
    layers: int = 4
    head: tuple[int, ...] = (128,)
    readout: Readout = "mean"
    dropout: float = 0.1
    directed: bool = False

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network."""
        return GCNNetwork(self, sizes)


class GCNNetwork(nn.Module):
    """Embedding, convolutions with ReLU, readout, perceptron."""

    def __init__(self, config: GCNConfig, sizes: Sizes) -> None:
        from torch_geometric.nn.dense import DenseGCNConv

        super().__init__()
        self.config = config
        self.embedding = NodeEmbedding(sizes, config.width)
        self.layers = nn.ModuleList(DenseGCNConv(config.width, config.width) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(config.width, sizes, config.head, config.dropout)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scores ``(b, m)``."""
        adjacency = batch.adjacency if self.config.directed else both_ways(batch.adjacency)
        x = self.embedding(batch)
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x, adjacency))) * batch.mask
        return self.head(readout(x, batch, self.config.readout), batch.inputs)


class GCN(GraphSurrogate[GCNConfig]):
    """The graph convolution baseline; see ``GraphSurrogate``."""

    name: ClassVar[str] = "gcn"
    settings: ClassVar[type[GCNConfig]] = GCNConfig
