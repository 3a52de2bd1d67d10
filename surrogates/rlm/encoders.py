"""The seam where an encoder is plugged in: how texts become its inputs, and its inputs become states.

A ``Reader`` goes with an ``Encoder``: the reader owns the tokenizer, makes inputs of texts, builds the encoder and
stores what both need beside the weights; the encoder is the torch module. Three pairs exist: two compact ones that read
the wiring, by tokens (``surrogates.rlm.wired``) or by lines (``surrogates.rlm.lines``), and any T5Gemma encoder
(``surrogates.rlm.transformers_encoder``). The decoder, the digits and the metrics know none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from search_spaces.errors import InvalidGraphError
from surrogates.rlm.config import LINES, WIRED, ModelConfig
from surrogates.rlm.inputs import EncodedText


class States(NamedTuple):
    """Encoded texts.

    Attributes:
        vectors: ``(b, t, width)``, one a token, in the decoder's width.
        present: Bool ``(b, t)``, false at padding.
    """

    vectors: Tensor
    present: Tensor


class Encoder(nn.Module, ABC):
    """A text batch to states of the decoder's width."""

    @abstractmethod
    def forward(self, batch: Any) -> States:
        """States of a batch as the encoder's own reader makes it."""

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Parameters that hold something learned elsewhere: they train at a lower rate, or not at all."""
        return []


class Reader(ABC):
    """Makes inputs of texts and builds the encoder that reads them."""

    @classmethod
    @abstractmethod
    def learn(cls, texts: Sequence[str], config: ModelConfig, *, vocabulary: int) -> Self:
        """The reader for a fit on ``texts``; ``vocabulary`` is the size of a tokenizer that is learned."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """The reader that ``save`` wrote.

        Raises:
            CheckpointError: Its files are missing or unreadable.
        """

    @abstractmethod
    def save(self, folder: Path, encoder: Encoder, *, store_encoder: bool) -> tuple[str, ...]:
        """Write all that ``load`` needs.

        Args:
            folder: The checkpoint folder.
            encoder: The encoder in use.
            store_encoder: False writes a reference to where the pretrained weights came from instead.

        Returns:
            Prefixes of the encoder's weights that the checkpoint need not hold.

        Raises:
            UsageError: The weights cannot be left out.
        """

    @property
    def referenced(self) -> tuple[str, ...]:
        """Prefixes of the encoder's weights that come from elsewhere, not from the checkpoint."""
        return ()

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer; its length is its vocabulary."""

    @abstractmethod
    def encode(self, texts: Sequence[str], *, context: int) -> list[EncodedText]:
        """Inputs of each text.

        Raises:
            InvalidGraphError: A text longer than ``context`` tokens; nothing is ever cut.
        """

    @abstractmethod
    def encoder(self, config: ModelConfig) -> Encoder:
        """A new encoder: with the weights a fit starts from, or those a checkpoint's weights are loaded over."""


def reader_for(config: ModelConfig) -> type[Reader]:
    """The reader that ``config.encoder`` names: one of ours, else that of transformers checkpoints."""
    from surrogates.rlm.lines import LineReader
    from surrogates.rlm.transformers_encoder import TransformersReader
    from surrogates.rlm.wired import WiredReader

    own: dict[str, type[Reader]] = {WIRED: WiredReader, LINES: LineReader}
    return own.get(config.encoder, TransformersReader)


def check_length(tokens: int, context: int) -> None:
    """Refuse a text of more ``tokens`` than ``context``.

    Raises:
        InvalidGraphError: It is longer.
    """
    if tokens > context:
        raise InvalidGraphError(
            f"a graph of {tokens} tokens exceeds the model's context of {context}; "
            "train with a larger ModelConfig.context"
        )
