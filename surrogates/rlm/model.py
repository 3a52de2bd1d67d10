"""The network: an encoder (``surrogates.rlm.encoders``) and a decoder that writes digits.

The decoder writes, for every metric, ``[metric] d1 d2 …``; a metric sees its own digits and those of the metrics it is
told to. Its keys and values of the graph are computed once per graph (``memory``) and shared by all decodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.numbers import ALPHABET
from surrogates.rlm import short_attention
from surrogates.rlm.attention import Dropout, FeedForward, merge_heads, split_heads
from surrogates.rlm.config import ModelConfig
from surrogates.rlm.encoders import Encoder, States
from surrogates.rlm.inputs import TextBatch


class Memory(NamedTuple):
    """What the decoder needs of encoded graphs; iterating ``layers()`` gives one layer's share each.

    Attributes:
        keys: Per decoder layer, ``(b, h, t, d)``.
        values: Per decoder layer, ``(b, h, t, d)``.
        present: Bool ``(b, 1, 1, t)``.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    present: Tensor

    def layers(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys, values and presence for each decoder layer."""
        return [(k, v, self.present) for k, v in zip(self.keys, self.values, strict=True)]


class DecoderLayer(nn.Module):
    """Self-attention over what is written, attention to the graph, feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.mean_heads = len(config.heads), config.mean_heads
        self.self_norm = nn.RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.self_projection = nn.Linear(config.width, config.width, bias=False)
        self.graph_norm = nn.RMSNorm(config.width)
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.memory = nn.Linear(config.width, 2 * config.width, bias=False)
        self.graph_projection = nn.Linear(config.width, config.width, bias=False)
        self.feed_forward_norm = nn.RMSNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward, config.dropout)
        self.dropout = Dropout(config.dropout)

    def attend_graph(self, x: Tensor, keys: Tensor, values: Tensor, present: Tensor) -> Tensor:
        """Attention of ``x`` ``(b, q, width)`` to the graph, then feed-forward."""
        (query,) = split_heads(self.query(self.graph_norm(x)), 1, self.heads)
        if self.mean_heads:  # equal scores for all tokens
            query = torch.cat([torch.zeros_like(query[:, : self.mean_heads]), query[:, self.mean_heads :]], dim=1)
        if short_attention.is_prepared(present):
            attended = short_attention.attention(query, keys, values, present)
        else:
            attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=present)
        x = x + self.dropout(self.graph_projection(merge_heads(attended)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def forward(self, x: Tensor, mask: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Whole sequences at once.

        Args:
            x: ``(b, s, width)``.
            mask: Bool ``(b, 1, s, s)``.
            memory: Keys, values and presence of the graph.

        Returns:
            The new ``x``, and this layer's keys and values ``(b, h, s, d)``.
        """
        q, k, v = split_heads(self.qkv(self.self_norm(x)), 3, self.heads)
        if short_attention.is_prepared(mask):
            attended = short_attention.attention(q, k, v, mask)
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.dropout(self.self_projection(merge_heads(attended)))
        return self.attend_graph(x, *memory), (k, v)

    def step(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One more token for each of ``q`` sequences a graph.

        Args:
            x: ``(b, q, width)``.
            past: Keys and values of what each sequence holds, ``(b, q, h, p, d)``.
            mask: Bool ``(b, q, 1, 1, p + 1)``: what may be seen; None for all.
            memory: Keys, values and presence of the graph.
        """
        batch, queries, width = x.shape
        q, k, v = self.qkv(self.self_norm(x)).view(batch, queries, 3, self.heads, 1, -1).unbind(2)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=3), torch.cat([past[1], v], dim=3)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.self_projection(attended.reshape(batch, queries, width))
        return self.attend_graph(x, *memory), (k, v)


class RLMNetwork(nn.Module):
    """Encoder, decoder and output layer.

    Args:
        config: Shape of the model.
        encoder: Reads the texts.
        metrics: Number of metrics.
        steps: Longest number in tokens.
    """

    def __init__(self, config: ModelConfig, encoder: Encoder, metrics: int, steps: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.metric_embedding = nn.Embedding(metrics, config.width)
        self.digit_embedding = nn.Embedding(len(ALPHABET), config.width)
        self.step_embedding = nn.Embedding(steps + 1, config.width)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.RMSNorm(config.width)
        self.output = nn.Linear(config.width, len(ALPHABET))
        for embedding in (self.metric_embedding, self.digit_embedding, self.step_embedding):
            nn.init.normal_(embedding.weight, std=0.5)

    def memory(self, batch: TextBatch) -> Memory:
        """Encode graphs: the part of the work that all decodes share."""
        return self.remember(self.encoder(batch))

    def remember(self, states: States) -> Memory:
        """Keys and values of encoded graphs, for every decoder layer."""
        heads = len(self.config.heads)
        pairs = [split_heads(layer.get_submodule("memory")(states.vectors), 2, heads) for layer in self.decoder]
        return Memory(tuple(k for k, _ in pairs), tuple(v for _, v in pairs), states.present[:, None, None, :])

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """What is trained, for the optimizer; a group's ``rate`` multiplies the learning rate.

        Matrices decay, vectors do not; a pretrained encoder's parameters have groups of their own.
        """
        pretrained = {id(parameter) for parameter in self.encoder.pretrained_parameters()}
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        fresh = [parameter for parameter in trained if id(parameter) not in pretrained]
        tuned = [parameter for parameter in trained if id(parameter) in pretrained]
        groups = []
        for parameters, rate in (fresh, 1.0), (tuned, self.config.encoder_rate):
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
            groups += [
                {"params": matrices, "weight_decay": weight_decay, "rate": rate},
                {"params": vectors, "weight_decay": 0.0, "rate": rate},
            ]
        return groups if tuned else groups[:2]

    def embed(self, metrics: Tensor, digits: Tensor | None, step: Tensor | int) -> Tensor:
        """Input of the decoder: which metric, which digit came last (None: none yet), at which step."""
        steps = torch.as_tensor(step, device=metrics.device)
        x = self.metric_embedding(metrics) + self.step_embedding(steps)
        return x if digits is None else x + self.digit_embedding(digits)

    def forward(self, batch: TextBatch, tokens: Tensor, visible: Tensor, names: Tensor | None = None) -> Tensor:
        """Logits of all digits, teacher-forced.

        Args:
            batch: ``b`` graphs.
            tokens: Long ``(b, m, s)``, number tokens of every metric; negative where missing.
            visible: Bool ``(b, m, m)``: ``visible[:, i, j]`` if metric ``i`` may see metric ``j``'s number.
            names: Long ``(m,)`` or ``(b, m)``: which metrics; None for the first ``m``.

        Returns:
            ``(b, m, s, len(ALPHABET))``.
        """
        rows, metrics, steps = tokens.shape
        index = torch.arange(metrics, device=tokens.device) if names is None else names
        x, _ = self.write(self.memory(batch), index.expand(rows, metrics), tokens, visible)
        logits: Tensor = self.output(self.norm(x.view(rows, metrics, steps + 1, -1)[:, :, :steps]))
        return logits

    def write(
        self, memory: Memory, names: Tensor, tokens: Tensor, visible: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Run the decoder over whole numbers.

        Args:
            memory: ``b`` encoded graphs.
            names: Long ``(b, m)``: which metrics.
            tokens: Long ``(b, m, s)``.
            visible: Bool ``(b, m, m)``.

        Returns:
            States ``(b, m * (s + 1), width)``, and per layer the keys and values ``(b, h, m * (s + 1), d)``.
        """
        rows, metrics, steps = tokens.shape
        places = torch.arange(steps + 1, device=tokens.device)
        x = self.metric_embedding(names)[:, :, None] + self.step_embedding(places)
        x = torch.cat([x[:, :, :1], x[:, :, 1:] + self.digit_embedding(tokens.clamp(min=0))], dim=2)
        x = x.reshape(rows, metrics * (steps + 1), -1)
        mask = short_attention.prepared(self._mask(visible, steps + 1), training=self.training)
        present = short_attention.prepared(memory.present, training=self.training)
        written = []
        for layer, (keys, values, _) in zip(self.decoder, memory.layers(), strict=True):
            x, keys_values = layer(x, mask, (keys, values, present))
            written.append(keys_values)
        return x, written

    @staticmethod
    def _mask(visible: Tensor, length: int) -> Tensor:
        """Own earlier digits, and all digits of visible metrics."""
        rows, metrics, _ = visible.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=visible.device).tril()
        own = torch.eye(metrics, dtype=torch.bool, device=visible.device)
        mask = (own[:, None, :, None] & causal[None, :, None, :])[None] | visible[:, :, None, :, None]
        size = metrics * length
        return mask.expand(rows, metrics, length, metrics, length).reshape(rows, 1, size, size)
