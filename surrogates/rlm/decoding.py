"""Reading numbers out of the decoder: exactly, by expanding leading digits, or by sampling.

Both modes write every metric in parallel, given the graph and the values already known; both mask each step by the
number format's grammar, so that whatever the weights, each decode is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogates.numbers import NumberFormat
from surrogates.rlm.model import Memory, RLMNetwork


@dataclass(frozen=True)
class Outcomes:
    """A discrete distribution for every graph and metric.

    Attributes:
        values: ``(b, m, k)``, numbers on the metric's scale.
        weights: ``(b, m, k)``, probabilities that sum to 1.
    """

    values: np.ndarray
    weights: np.ndarray

    def mean(self) -> np.ndarray:
        """Expected value on the scale, ``(b, m)``."""
        return np.asarray((self.values * self.weights).sum(-1))

    def point(self, centre: str, aggregate: str = "auto") -> np.ndarray:
        """One number for each, ``(b, m)``, on a scale that has this ``centre``; see ``DecodingConfig.aggregate``."""
        median = (centre if aggregate == "auto" else aggregate) == "median"
        return self.quantiles((0.5,))[..., 0] if median else self.mean()

    def quantiles(self, levels: tuple[float, ...]) -> np.ndarray:
        """Quantiles on the scale, ``(b, m, q)``, interpolated between outcomes."""
        order = np.argsort(self.values, axis=-1)
        values = np.take_along_axis(self.values, order, -1)
        weights = np.take_along_axis(self.weights, order, -1)
        middles = np.cumsum(weights, -1) - 0.5 * weights
        last = values.shape[-1] - 1
        found = []
        for level in levels:
            after = (middles < level).sum(-1, keepdims=True)
            ends = np.clip(np.concatenate([after - 1, after], -1), 0, last)
            (x0, x1), (y0, y1) = (np.moveaxis(np.take_along_axis(of, ends, -1), -1, 0) for of in (middles, values))
            share = np.divide(level - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
            found.append(y0 + share * (y1 - y0))
        return np.stack(found, axis=-1)

    def stretched(self, factor: float) -> Outcomes:
        """All values moved away from the median, to ``factor`` times their distance."""
        median = self.quantiles((0.5,))
        return Outcomes(median + factor * (self.values - median), self.weights)


def mixture(readings: Sequence[Outcomes]) -> Outcomes:
    """The distribution of which each of ``readings`` is right with equal probability."""
    if len(readings) == 1:
        return readings[0]
    values = np.concatenate([reading.values for reading in readings], axis=-1)
    weights = np.concatenate([reading.weights for reading in readings], axis=-1)
    return Outcomes(values, weights / len(readings))


@dataclass(frozen=True)
class Given:
    """Numbers already known, as decoder state.

    Attributes:
        past: Per layer, keys and values ``(b, h, p, d)``.
        present: Bool ``(b, p)``: which of the positions hold a known number.
    """

    past: list[tuple[Tensor, Tensor]]
    present: Tensor


def remember_given(network: RLMNetwork, memory: Memory, names: list[int], tokens: Tensor) -> Given:
    """Write known numbers, tokens ``(b, g, s)`` with negative rows where unknown, so that later metrics see them."""
    rows, count, steps = tokens.shape
    device = memory.present.device
    tokens = tokens.to(device)
    known = (tokens >= 0).any(-1)
    order = torch.ones(count, count, dtype=torch.bool, device=device).tril(-1)
    visible = order[None] & known[:, None, :]
    index = torch.tensor(names, device=device).expand(rows, count)
    _, past = network.write(memory, index, tokens, visible)
    present = torch.cat([known[:, :, None], tokens >= 0], dim=2)
    return Given(past, present.reshape(rows, count * (steps + 1)))


class _Hypotheses:
    """``q`` partly written numbers for each graph, with their decoder state."""

    def __init__(self, network: RLMNetwork, memory: Memory, given: Given | None) -> None:
        self.network, self.memory, self.given = network, memory, given
        self.past: list[tuple[Tensor, Tensor]] | None = None
        self.length = 0

    def advance(self, x: Tensor) -> Tensor:
        """Feed one more token, embedded as ``x`` ``(b, q, width)``, to each; returns logits ``(b, q, alphabet)``."""
        rows, queries, _ = x.shape
        if self.past is None and self.given is not None:
            self.past = [
                (k[:, None].expand(-1, queries, -1, -1, -1), v[:, None].expand(-1, queries, -1, -1, -1))
                for k, v in self.given.past
            ]
        self.length += 1
        mask = None
        if self.given is not None:
            own = torch.ones(rows, self.length, dtype=torch.bool, device=x.device)
            mask = torch.cat([self.given.present, own], dim=1)[:, None, None, None, :]
        grown = []
        for i, (layer, share) in enumerate(zip(self.network.decoder, self.memory.layers(), strict=True)):
            x, past = layer.step(x, None if self.past is None else self.past[i], mask, share)  # type: ignore[operator]
            grown.append(past)
        self.past = grown
        return self.network.output(self.network.norm(x))

    def pick(self, parents: Tensor) -> None:
        """Continue from hypotheses ``parents`` ``(b, q')`` only."""
        assert self.past is not None
        rows = torch.arange(parents.shape[0], device=parents.device)[:, None]
        self.past = [(k[rows, parents], v[rows, parents]) for k, v in self.past]


def expand(
    network: RLMNetwork,
    memory: Memory,
    names: list[int],
    number_format: NumberFormat,
    beams: tuple[int, ...],
    given: Given | None = None,
    temperatures: Sequence[float] | None = None,
) -> Outcomes:
    """Exact mode: expand the likeliest prefixes digit by digit; the others stand for the middle of their interval.

    Args:
        network: The model, in eval mode.
        memory: ``b`` encoded graphs.
        names: Indices of ``m`` metrics that share ``number_format``.
        number_format: Their digits.
        beams: Prefixes expanded at each digit after the first; the last entry holds for all further ones.
        given: Known numbers.
        temperatures: What divides the logits of each metric's digits; None for 1.
    """
    rows, m, device = memory.present.shape[0], len(names), memory.present.device
    index = torch.tensor(names, device=device).expand(rows, m)
    warmth = torch.ones(m, device=device) if temperatures is None else torch.tensor(temperatures, device=device)
    state = _Hypotheses(network, memory, given)
    logits = state.advance(network.embed(index, None, 0)).view(rows, m, 1, -1)
    prefixes = torch.zeros(rows, m, 1, 0, dtype=torch.long, device=device)
    mass = torch.ones(rows, m, 1, device=device)
    values, weights = [], []
    steps = number_format.steps
    for step, allowed in enumerate(steps):
        choices = torch.tensor(allowed, device=device)
        kept, count = mass.shape[2], len(choices)
        probability = (logits[..., choices].float() / warmth[:, None, None]).softmax(-1) * mass[..., None]
        children = torch.cat(
            [
                prefixes[:, :, :, None, :].expand(rows, m, kept, count, step),
                choices.expand(rows, m, kept, count)[..., None],
            ],
            dim=-1,
        ).view(rows, m, kept * count, step + 1)
        probability = probability.view(rows, m, kept * count)
        middle = number_format.decode(children.cpu().numpy())
        if step == len(steps) - 1:
            values.append(middle)
            weights.append(probability.cpu().numpy())
            break
        undefined = np.isnan(middle).any()  # a number without its exponent: nothing can stand for what is dropped
        width = kept * count if undefined else min(beams[min(step, len(beams) - 1)], kept * count)
        mass, best = probability.topk(width, dim=-1)
        if not undefined:
            values.append(middle)
            weights.append(probability.scatter(-1, best, 0.0).cpu().numpy())
        prefixes = children.gather(2, best[..., None].expand(rows, m, width, step + 1))
        parents = best // count + torch.arange(m, device=device)[None, :, None] * kept
        state.pick(parents.view(rows, m * width))
        embedded = network.embed(
            index[:, :, None].expand(rows, m, width).reshape(rows, -1), prefixes[..., -1].reshape(rows, -1), step + 1
        )
        logits = state.advance(embedded).view(rows, m, width, -1)
    weight = np.concatenate(weights, axis=-1)
    return Outcomes(np.concatenate(values, axis=-1), weight / weight.sum(-1, keepdims=True))


def sample(
    network: RLMNetwork,
    memory: Memory,
    names: list[int],
    number_format: NumberFormat,
    count: int,
    generator: torch.Generator,
    given: Given | None = None,
    temperatures: Sequence[float] | None = None,
) -> Outcomes:
    """Sampling mode: ``count`` numbers drawn for every graph and metric; arguments as for ``expand``."""
    rows, m, device = memory.present.shape[0], len(names), memory.present.device
    index = torch.tensor(names, device=device).expand(rows, m)
    warmth = torch.ones(m, device=device) if temperatures is None else torch.tensor(temperatures, device=device)
    warmth = warmth.repeat_interleave(count)[:, None]
    state = _Hypotheses(network, memory, given)
    logits = state.advance(network.embed(index, None, 0))
    repeated = torch.arange(m, device=device).repeat_interleave(count).expand(rows, m * count)
    state.pick(repeated)
    logits = logits.repeat_interleave(count, dim=1)
    index = index.repeat_interleave(count, dim=1)
    drawn: list[Tensor] = []
    for step, allowed in enumerate(number_format.steps):
        choices = torch.tensor(allowed, device=device)
        probability = (logits[..., choices].float() / warmth).softmax(-1)
        chances = probability.view(-1, len(choices)).to(generator.device)
        pick = torch.multinomial(chances, 1, generator=generator).view(rows, m * count)
        drawn.append(choices[pick.to(device)])
        if step < len(number_format.steps) - 1:
            logits = state.advance(network.embed(index, drawn[-1], step + 1))
    tokens = torch.stack(drawn, dim=-1).view(rows, m, count, -1).cpu().numpy()
    return Outcomes(number_format.decode(tokens), np.full(tokens.shape[:3], 1.0 / count))
