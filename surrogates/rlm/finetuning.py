"""What going on from pretrained weights needs: rows for new metrics, modules that stay, how far others may go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from search_spaces.errors import UnknownNameError, UsageError
from surrogates.rlm.model import RLMNetwork


def add_metrics(network: RLMNetwork, count: int, *, seed: int) -> None:
    """Give ``network`` rows for ``count`` more metrics, behind those it has, which stay as they are."""
    if not count:
        return
    old = network.metric_embedding.weight
    generator = torch.Generator().manual_seed(seed)
    fresh = 0.5 * torch.randn(count, old.shape[1], generator=generator)
    grown = nn.Embedding(len(old) + count, old.shape[1], dtype=old.dtype, device=old.device)
    with torch.no_grad():
        grown.weight.copy_(torch.cat([old, fresh.to(old)]))
    network.metric_embedding = grown


def keep_metrics(network: RLMNetwork, indices: Sequence[int]) -> None:
    """Leave ``network`` only the metrics ``indices``, in that order."""
    old = network.metric_embedding.weight.detach()
    network.metric_embedding = nn.Embedding(len(indices), old.shape[1], _weight=old[list(indices)].clone())


@contextmanager
def frozen(network: nn.Module, prefixes: Sequence[str]) -> Iterator[None]:
    """Within the context, modules with these name prefixes (``encoder``, ``decoder.0``) get no gradients.

    Raises:
        UnknownNameError: No module has such a name.
        UsageError: Nothing is left to train.
    """
    stopped: list[nn.Parameter] = []
    for prefix in prefixes:
        found = [p for name, p in network.named_parameters() if f"{name}.".startswith(f"{prefix}.")]
        if not found:
            raise UnknownNameError("module of the network", prefix, [name for name, _ in network.named_children()])
        stopped += [p for p in found if p.requires_grad]
    if {id(p) for p in network.parameters() if p.requires_grad} <= {id(p) for p in stopped}:
        raise UsageError(f"nothing is left to train with {', '.join(prefixes)} frozen; freeze less")
    for parameter in stopped:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in stopped:
            parameter.requires_grad_(True)


@contextmanager
def anchored(network: nn.Module, share: float) -> Iterator[None]:
    """Take ``network`` back, at the end of the context, ``share`` of the way to the weights it had at its beginning."""
    before = {name: weight.detach().clone() for name, weight in network.state_dict().items()} if share else {}
    yield
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if share and weight.is_floating_point():
                weight.lerp_(before[name].to(weight), share)


def shrink(network: RLMNetwork, factor: float) -> None:
    """Multiply the matrices of all linear layers by ``factor``, but ``frozen`` ones and those of a foreign encoder."""
    foreign = {id(parameter) for parameter in network.encoder.pretrained_parameters()}
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear) and module.weight.requires_grad and id(module.weight) not in foreign:
                module.weight.mul_(factor)
