"""What the encoder's and the decoder's layers share: feed-forward, dropout, heads, rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Dropout whose random numbers are bytes on a CPU, where torch's draw costs as much as the layers around it.

    The rate is rounded to a 256th there; what is kept is scaled by the rate that results.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with random elements zero while training."""
        dropped = round(256 * self.p)
        if not self.training or not 0 < dropped < 256 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        draws = words.view(torch.int8)[: x.numel()].view(x.shape)
        kept = torch.ge(draws, dropped - 128, out=torch.empty(x.shape)).mul_(256 / (256 - dropped))
        return (x * kept).to(x.dtype)


class FeedForward(nn.Sequential):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, width))


def rotary(length: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of rotary positions, each ``(length, dim)`` (arXiv 2104.09864)."""
    frequencies = 1.0 / (1000.0 ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim))
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions to ``(b, h, t, dim)``."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    rotated: Tensor = x * cosine + torch.cat([-second, first], dim=-1) * sine
    return rotated.to(x.dtype)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """``(b, t, parts * width)`` to ``parts`` tensors ``(b, heads, t, width / heads)``."""
    batch, length, size = x.shape
    return x.view(batch, length, parts, heads, size // parts // heads).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """``(b, heads, t, d)`` to ``(b, t, heads * d)``."""
    return x.transpose(1, 2).flatten(2)
