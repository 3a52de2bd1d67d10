"""The compact encoder, which reads text and wiring, and its reader.

A pre-norm transformer with rotary positions whose heads are hard-masked: some see only the lines that a token's line
reads, some only those that read it, some its ancestors or descendants, the rest everything. Attention takes
means; with ``ModelConfig.flow`` every layer also adds up vectors along the wires.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.errors import UsageError
from surrogates.rlm import short_attention
from surrogates.rlm.attention import Dropout, FeedForward, merge_heads, rotary, rotate, split_heads
from surrogates.rlm.config import ModelConfig
from surrogates.rlm.encoders import Encoder, Reader, States, check_length
from surrogates.rlm.inputs import EncodedGraph, EncodedText, GraphBatch
from surrogates.text.tokenizer import Tokenizer
from surrogates.text.wiring import wiring

TOKENIZER_FILE = "tokenizer.json"


class WiredReader(Reader):
    """A byte-pair tokenizer learned from the training texts, and the wiring read from each text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learn(cls, texts: Sequence[str], config: ModelConfig, *, vocabulary: int) -> Self:
        """See ``Reader``."""
        return cls(Tokenizer.train(sorted(set(texts)), vocabulary=vocabulary))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See ``Reader``."""
        return cls(Tokenizer.load(folder / TOKENIZER_FILE))

    def save(self, folder: Path, encoder: Encoder, *, store_encoder: bool) -> tuple[str, ...]:
        """See ``Reader``."""
        if not store_encoder:
            raise UsageError("store_encoder=False is for a frozen pretrained encoder; the wired one must be stored")
        self._tokenizer.save(folder / TOKENIZER_FILE)
        return ()

    @property
    def tokenizer(self) -> Tokenizer:
        """See ``Reader``."""
        return self._tokenizer

    def encode(self, texts: Sequence[str], *, context: int) -> list[EncodedText]:
        """See ``Reader``."""
        encoded: list[EncodedText] = []
        for text, (ids, lines) in zip(texts, self._tokenizer.encode(texts), strict=True):
            check_length(len(ids), context)
            wires = wiring(text)
            self_too = np.eye(len(wires.producers), dtype=bool)
            producers, ancestors = wires.producers | self_too, wires.ancestors | self_too
            encoded.append(EncodedGraph(ids, lines, producers, ancestors, wires.operands))
        return encoded

    def encoder(self, config: ModelConfig) -> Encoder:
        """See ``Reader``."""
        return WiredEncoder(config, len(self._tokenizer))


class Wired(Protocol):
    """Batches with wires: which of ``n`` parts of a text are there, and which a part may see."""

    @property
    def present(self) -> Tensor:
        """Bool ``(b, n)``, false at padding."""

    @property
    def producers(self) -> Tensor:
        """Bool ``(b, n, n)``, what a part reads, and itself."""

    @property
    def ancestors(self) -> Tensor:
        """Bool ``(b, n, n)``, its transitive closure."""


class Wires(NamedTuple):
    """Weights of sums over tokens, ``(b, t, t)``; the tokens of a line share a weight of 1.

    Attributes:
        operands: Of the lines that a token's line reads.
        readers: Of the lines that read it.
    """

    operands: Tensor
    readers: Tensor

    @classmethod
    def of(cls, batch: GraphBatch) -> Wires:
        """The wires of a batch."""
        same_line = batch.producers & batch.producers.transpose(1, 2)  # a wire leads one way: no other line is both
        share = 1 / same_line.sum(dim=-1).clamp(min=1)[:, None]
        return cls(batch.operands * share, batch.operands.transpose(1, 2) * share)


class Flow(nn.Module):
    """Gated sums along the wires, pre-norm: dense graph flow (Ning et al., arXiv 2004.01899) in both directions.

    A token receives the vectors of the lines that its own line reads, and of those that read it, through a matrix each,
    and lets in of them what its gates say. A line counts once, however many tokens it has.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.values = nn.Linear(width, 2 * width, bias=False)
        self.gates = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor, wires: Wires) -> Tensor:
        """``x`` is ``(b, t, width)``, and so is the result."""
        x = self.norm(x)
        read, reading = self.values(x).chunk(2, dim=-1)
        arrived = torch.cat([torch.bmm(wires.operands, read), torch.bmm(wires.readers, reading)], dim=-1)
        return self.projection(torch.sigmoid(self.gates(x)) * arrived)


class EncoderLayer(nn.Module):
    """Masked self-attention, flow if there is any, and feed-forward, all pre-norm and residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = len(config.heads)
        self.attention_norm = nn.RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.projection = nn.Linear(config.width, config.width, bias=False)
        self.flow = Flow(config.width) if config.flow else None
        self.feed_forward_norm = nn.RMSNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.dropout)
        self.dropout = Dropout(config.dropout)

    def last_matrices(self) -> list[Tensor]:
        """The matrices whose products are added to what comes in."""
        last = [self.projection, self.feed_forward[3], *([self.flow.projection] if self.flow is not None else [])]
        return [layer.get_parameter("weight") for layer in last]

    def forward(self, x: Tensor, mask: Tensor, rotation: tuple[Tensor, Tensor], wires: Wires | None) -> Tensor:
        """One layer.

        Args:
            x: ``(b, t, width)``.
            mask: Bool ``(b, heads, t, t)``, or such a one ``prepared``.
            rotation: Rotary positions.
            wires: What flows where, if anything does.
        """
        qkv = self.qkv(self.attention_norm(x))
        if short_attention.is_prepared(mask):
            merged = short_attention.self_attention(qkv, self.heads, mask, rotation)
        else:
            q, k, v = split_heads(qkv, 3, self.heads)
            q, k = rotate(q, rotation), rotate(k, rotation)
            merged = merge_heads(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        x = x + self.dropout(self.projection(merged))
        if self.flow is not None:
            x = x + self.dropout(self.flow(x, wires))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class WiredEncoder(Encoder):
    """Token ids and wiring to one vector a token."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.RMSNorm(config.width)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, batch: GraphBatch) -> States:
        """See ``Encoder``."""
        mask = short_attention.prepared(head_masks(batch, self.config), training=self.training)
        rotation = rotary(batch.ids.shape[1], self.config.width // len(self.config.heads), batch.ids.device)
        wires = Wires.of(batch) if self.config.flow else None
        x = self.dropout(self.embedding(batch.ids))
        for layer in self.layers:
            x = layer(x, mask, rotation, wires)
        return States(self.norm(x), batch.present)


def head_masks(batch: Wired, config: ModelConfig) -> Tensor:
    """What each head of ``config`` may look at, bool ``(b, heads, n, n)``."""
    everything = batch.present[:, None, :].expand_as(batch.producers)
    kinds = {
        "producers": batch.producers,
        "consumers": batch.producers.transpose(1, 2),
        "ancestors": batch.ancestors,
        "descendants": batch.ancestors.transpose(1, 2),
        "all": everything,
    }
    mask = torch.stack([kinds[head] for head in config.heads], dim=1)
    padding_rows = ~batch.present[:, None, :, None]  # a row that may look nowhere would turn into NaN
    return mask | padding_rows
