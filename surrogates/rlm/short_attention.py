"""Attention over short sequences on a CPU while training: few large operations in place of many small ones.

Torch's attention kernel for CPUs is made for long sequences: on graphs of some tens of tokens with a mask for every
head it spends most of its time around its matrix products, and its backward pass recomputes the scores. Here scores
are kept (they are as large as the mask, which exists anyway), rotary positions are applied to queries and keys in one
go, and gradients are written straight into the layout that the projection's backward pass reads. Same sums, other
order: results agree with torch's attention up to rounding. Under autocast all of it stays in float32: products this
small gain nothing from bfloat16, and the projections around them, which do, keep it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

#: Longest sequence of queries or keys taken; beyond it torch's blocked kernel wins.
LONGEST = 256
#: What a score is lowered by where the mask forbids looking: its share becomes exactly 0 in float32.
FORBIDDEN = 1e9


def prepared(mask: Tensor, *, training: bool) -> Tensor:
    """``mask`` (bool) as numbers to add to scores where this module suits; else as it is, for torch's attention.

    The layers choose by the type of the mask.
    """
    if not training or mask.device.type != "cpu" or max(mask.shape[-2:]) > LONGEST:
        return mask
    return mask.float().sub_(1).mul_(FORBIDDEN)


def is_prepared(mask: Tensor) -> bool:
    """Whether ``mask`` is meant for this module."""
    return mask.dtype == torch.float32


def self_attention(qkv: Tensor, heads: int, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Projected queries, keys and values ``(b, t, 3 * width)`` to ``(b, t, width)``.

    Args:
        qkv: Output of the projection.
        heads: Number of heads.
        mask: A ``prepared`` one that broadcasts to ``(b, heads, t, t)``.
        rotation: Rotary positions, as of ``attention.rotary``.
    """
    attended: Tensor = _SelfAttention.apply(qkv, heads, mask, rotation)  # type: ignore[no-untyped-call]
    return attended


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Queries ``(b, h, s, d)``, keys and values ``(b, h, t, d)`` to ``(b, h, s, d)``; ``mask`` is ``prepared``."""
    attended: Tensor = _Attention.apply(q, k, v, mask)  # type: ignore[no-untyped-call]
    return attended


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, qkv: Tensor, heads: int, mask: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, size = qkv.shape
        parts = qkv.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        parts = parts.clone(memory_format=torch.contiguous_format)  # a copy even where the layout needs none
        parts[:2] = _rotated(parts[:2], *rotation)
        parts[0] *= 1 / math.sqrt(parts.shape[-1])
        q, k, v = parts
        shares = (q @ k.transpose(-2, -1)).add_(mask).softmax(-1)
        ctx.save_for_backward(parts, shares)
        ctx.rotation = rotation
        return (shares @ v).transpose(1, 2).reshape(batch, length, size // 3)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        parts, shares = ctx.saved_tensors
        _, batch, heads, length, dim = parts.shape
        gradient = gradients[0].view(batch, length, heads, dim).transpose(1, 2).contiguous()
        found = torch.empty_like(parts)
        _backward(parts[0], parts[1], parts[2], shares, gradient, found)
        cosine, sine = ctx.rotation
        found[:2] = _rotated(found[:2], cosine, -sine)
        return found.permute(1, 3, 0, 2, 4).reshape(batch, length, -1), None, None, None


class _Attention(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        q, k, v = q.contiguous() * (1 / math.sqrt(q.shape[-1])), k.contiguous(), v.contiguous()
        shares = (q @ k.transpose(-2, -1)).add_(mask).softmax(-1)
        ctx.save_for_backward(q, k, v, shares)
        return shares @ v

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, shares = ctx.saved_tensors
        found = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
        _backward(q, k, v, shares, gradients[0].contiguous(), found)
        return *found, None


def _backward(
    q: Tensor, k: Tensor, v: Tensor, shares: Tensor, gradient: Tensor, found: tuple[Tensor, ...] | Tensor
) -> None:
    """Gradients of scaled queries, keys and values into ``found``; that of queries is scaled back."""
    flat = [t.flatten(0, 1) for t in (q, k, v, shares, gradient)]
    q, k, v, shares, gradient = flat
    dq, dk, dv = (t.view(-1, *t.shape[2:]) for t in found)
    torch.bmm(shares.transpose(1, 2), gradient, out=dv)
    scores = torch.bmm(gradient, v.transpose(1, 2))
    scores = torch._softmax_backward_data(scores, shares, -1, scores.dtype)
    torch.bmm(scores, k, out=dq)
    dq *= 1 / math.sqrt(q.shape[-1])
    torch.bmm(scores.transpose(1, 2), q, out=dk)


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``attention.rotate`` without intermediate copies."""
    half = x.shape[-1] // 2
    result = x * cosine
    result[..., :half].addcmul_(x[..., half:], sine[:, :half], value=-1)
    result[..., half:].addcmul_(x[..., :half], sine[:, half:])
    return result
