"""The quick attention of training against torch's own: same numbers, same gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import search_spaces
from surrogates.rlm import ModelConfig, short_attention
from surrogates.rlm.attention import Dropout, merge_heads, rotary, rotate, split_heads
from surrogates.rlm.encoders import reader_for
from surrogates.rlm.inputs import collate
from surrogates.rlm.model import RLMNetwork
from surrogates.text import linearize


def _mask(batch: int, heads: int, rows: int, columns: int) -> torch.Tensor:
    mask = torch.rand(batch, heads, rows, columns) < 0.5
    mask[..., 0] = True  # every row may look somewhere
    return mask


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_it_equals_torchs_attention(batch: int, heads: int, rows: int, columns: int, seed: int) -> None:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, n, 4, requires_grad=True) for n in (rows, columns, columns))
    mask, gradient = _mask(batch, heads, rows, columns), torch.randn(batch, heads, rows, 4)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    found = short_attention.attention(q, k, v, short_attention.prepared(mask, training=True))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, (q, k, v), gradient), torch.autograd.grad(expected, (q, k, v), gradient)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(0, 2**16))
def test_rotation_is_part_of_it(batch: int, heads: int, length: int, seed: int) -> None:
    torch.manual_seed(seed)
    qkv = torch.randn(batch, length, 3 * heads * 4, requires_grad=True)
    mask, gradient = _mask(batch, heads, length, length), torch.randn(batch, length, heads * 4)
    rotation = rotary(length, 4, torch.device("cpu"))
    q, k, v = split_heads(qkv, 3, heads)
    attended = functional.scaled_dot_product_attention(rotate(q, rotation), rotate(k, rotation), v, attn_mask=mask)
    expected = merge_heads(attended)
    found = short_attention.self_attention(qkv, heads, short_attention.prepared(mask, training=True), rotation)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, qkv, gradient), torch.autograd.grad(expected, qkv, gradient), rtol=1e-4, atol=1e-5
    )


def test_a_network_trains_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of several lengths, so that padding is masked; metrics that see each other."""
    config = ModelConfig(width=20, encoder_layers=2, decoder_layers=1, feed_forward=32, heads=("consumers", "all"))
    texts = []
    for name in ("nasbench201", "nasbench101"):
        space, rng = search_spaces.get(name), np.random.default_rng(0)
        texts += [linearize(space.to_onnx(space.sample(rng))) for _ in range(4)]
    reader = reader_for(config).learn(texts, config, vocabulary=300)
    torch.manual_seed(0)
    network = RLMNetwork(config, reader.encoder(config), 2, 3).train()
    batch = collate(reader.encode(texts, context=2048))
    assert not batch.present.all()
    tokens = torch.randint(0, 10, (8, 2, 3))
    visible = torch.zeros(8, 2, 2, dtype=torch.bool)
    visible[::2, 1, 0] = True

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        logits = network(batch, tokens, visible)
        functional.cross_entropy(logits[..., :10].flatten(0, 2), tokens.flatten()).backward()
        return [logits.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]

    quick = gradients()
    monkeypatch.setattr(short_attention, "prepared", lambda mask, *, training: mask)
    plain = gradients()
    assert len(quick) == len(plain) > 10
    for one, other in zip(quick, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_long_sequences_and_prediction_keep_torchs_attention() -> None:
    short, long = torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.ones(1, 1, 4, 999, dtype=torch.bool)
    assert short_attention.is_prepared(short_attention.prepared(short, training=True))
    assert not short_attention.is_prepared(short_attention.prepared(short, training=False))
    assert not short_attention.is_prepared(short_attention.prepared(long, training=True))


def test_under_autocast_it_computes_in_float32() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 5, 24, dtype=torch.bfloat16, requires_grad=True)
    mask, rotation = short_attention.prepared(_mask(2, 2, 5, 5), training=True), rotary(5, 4, torch.device("cpu"))
    expected = short_attention.self_attention(qkv.float(), 2, mask, rotation)
    (wanted,) = torch.autograd.grad(expected.square().sum(), qkv)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = short_attention.self_attention(qkv, 2, mask, rotation)
        (gradient,) = torch.autograd.grad(found.square().sum(), qkv)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    layer, x = Dropout(rate).train(), torch.full((50, 100, 7), 2.0, requires_grad=True)
    found = layer(x)
    assert abs((found == 0).float().mean().item() - rate) < 0.01
    assert abs(found.mean().item() - 2.0) < 0.03
    assert found.unique().numel() == 2
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(gradient * x, found)
    torch.manual_seed(0)
    torch.testing.assert_close(layer(x), found)  # torch's seed decides
    assert torch.equal(layer.eval()(x), x)
    assert not Dropout(1.0).train()(x).any()
