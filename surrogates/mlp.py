"""A perceptron on the adjacency matrix and the operations of a graph: the oldest baseline of the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from search_spaces.errors import UsageError
from surrogates.gnn.encoding import UNKNOWN, GraphBatch
from surrogates.gnn.layers import Sizes
from surrogates.gnn.surrogate import GraphSurrogate


@dataclass(frozen=True)
class MLPConfig:
    """Shape of the network.

    Attributes:
        hidden: Sizes of the hidden layers.
        dropout: Dropout rate after each of them.
        cut: Of a graph with more nodes than any training graph read the first ones, instead of refusing it.
    """

    hidden: tuple[int, ...] = (200, 200, 200)
    dropout: float = 0.1
    cut: bool = False

    def build(self, sizes: Sizes) -> nn.Module:
        """A new network."""
        return MLPNetwork(self, sizes)


class MLPNetwork(nn.Module):
    """Reads a fixed number of nodes: that of the largest training graph.

    Raises:
        UsageError: A graph has more nodes, and ``MLPConfig.cut`` is off.
    """

    def __init__(self, config: MLPConfig, sizes: Sizes) -> None:
        super().__init__()
        self.cut, self.nodes, self.words = config.cut, sizes.nodes, sizes.words - UNKNOWN
        flat = sizes.nodes * (sizes.nodes + self.words + sizes.features) + sizes.inputs
        widths = (flat, *config.hidden)
        layers: list[nn.Module] = []
        for before, after in zip(widths, config.hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], sizes.outputs))

    def forward(self, batch: GraphBatch) -> Tensor:
        """Scores ``(b, m)``."""
        if not self.cut and bool(batch.mask[:, self.nodes :].any()):
            raise UsageError(
                f"a graph has more than the {self.nodes} nodes of the largest training graph, and a perceptron reads a "
                "fixed number; train on larger graphs, set MLPConfig(cut=True), or use gcn, gin, gat or flan"
            )
        parts = [
            batch.operations[:, : self.nodes, UNKNOWN:],
            batch.adjacency[:, : self.nodes, : self.nodes],
            batch.features[:, : self.nodes],
        ]
        return self.layers(torch.cat([*(part.flatten(1) for part in parts), batch.inputs], dim=1))


class MLP(GraphSurrogate[MLPConfig]):
    """The perceptron baseline; see ``GraphSurrogate``."""

    name: ClassVar[str] = "mlp"
    settings: ClassVar[type[MLPConfig]] = MLPConfig
