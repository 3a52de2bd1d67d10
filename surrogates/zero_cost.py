"""Zero-cost proxies: scores of a network that was never trained, from a few passes of random data.

Each formula is that of the paper named beside it, computed as in NAS-Bench-Suite-Zero (Krishnakumar et al., arXiv
2210.03230), but on Gaussian inputs and random labels: no data set is needed. A larger score promises a better network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from torch import Tensor, nn

from search_spaces.analysis import count_macs, count_parameters
from search_spaces.errors import InvalidGraphError, UnknownNameError
from search_spaces.graph import data_inputs
from search_spaces.torch_module import Operator, to_torch


@dataclass(frozen=True)
class ProxyConfig:
    """The data and weights that proxies see.

    Attributes:
        batch_size: Inputs in a pass.
        seed: Seed of weights, inputs and labels; the same for every network.
    """

    batch_size: int = 32
    seed: int = 0


class Probe:
    """One network with its random weights and data, ready for measuring.

    Weights are uniform with variance ``1 / (3 fan_in)``, biases zero, batch norm neutral: torch's defaults, which the
    published values were computed with. (With He weights synflow, which multiplies along paths, ranks long paths
    higher.) Batch norm uses the statistics of the batch.

    Attributes:
        module: The network, in training mode.
        x: Gaussian inputs ``(batch_size, ...)``.
        noise: As many more.
        generator: What they were drawn from.
    """

    def __init__(self, model: onnx.ModelProto, config: ProxyConfig) -> None:
        self.module = to_torch(model, seed=config.seed).train()
        self.generator = generator = torch.Generator().manual_seed(config.seed)
        self.weights = [parameter for parameter in self.module.parameters() if parameter.ndim > 1]
        for weight in self.weights:
            bound = 1 / math.sqrt(weight[0].numel() or 1)
            with torch.no_grad():
                weight.uniform_(-bound, bound, generator=generator)
        inputs = data_inputs(model)
        if len(inputs) != 1:
            raise InvalidGraphError(f"zero-cost proxies feed one data input, the network has {len(inputs)}")
        shape = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim[1:]]
        self.x = torch.randn(config.batch_size, *shape, generator=generator)
        self.noise = torch.randn(config.batch_size, *shape, generator=generator)
        self._choice = torch.rand(config.batch_size, generator=generator)

    @property
    def operators(self) -> list[Operator]:
        """The operators, in order of execution."""
        return [operator for operator in self.module.operators if isinstance(operator, Operator)]

    def gradients(self) -> None:
        """Leave the gradients of the cross entropy in the weights."""
        self.module.zero_grad()
        scores = self.module(self.x)
        labels = (self._choice * scores.shape[1]).long()
        nn.functional.cross_entropy(scores, labels).backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def watch(self, op_type: str, see: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
        """Show ``see`` the first input and the output of every operator of a type, in order of execution."""

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            see(inputs[0], output)

        handles = [o.register_forward_hook(hook) for o in self.operators if o.op_type == op_type]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def nwot(probe: Probe) -> float:
    """Log-determinant of how alike inputs look to the ReLUs (Mellor et al., arXiv 2006.04647).

    Entry (i, j) of the kernel counts the units that are both on or both off for inputs i and j.
    """
    kernel = torch.zeros(len(probe.x), len(probe.x), dtype=torch.float64)

    def see(_: Tensor, output: Tensor) -> None:
        code = (output > 0).flatten(1).float()
        # Both on, and both off: exact in float32 below 2^24 units of a layer.
        kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

    with probe.watch("Relu", see), torch.no_grad():
        probe.module(probe.x)
    value = float(torch.linalg.slogdet(kernel).logabsdet)
    return value if math.isfinite(value) else NOTHING


def synflow(probe: Probe) -> float:
    """Log of ``sum |w dR/dw|``, ``R`` the sum of outputs for an input of ones, weights absolute, no batch norm.

    Tanaka et al., arXiv 2006.05467. The published proxy is the sum itself; its logarithm ranks alike and does not
    overflow on deep networks.
    """
    module = probe.module.double().train()
    for index, operator in enumerate(module.operators):
        if isinstance(operator, Operator) and operator.op_type == "BatchNormalization":
            module.operators[index] = _First()
    with torch.no_grad():
        for weight in probe.weights:
            weight.abs_()
    module.zero_grad()
    module(torch.ones_like(probe.x[:1]).double()).sum().backward()
    total = _total(w * w.grad for w in probe.weights if w.grad is not None)
    return math.log(total) if total > 0 else NOTHING


def snip(probe: Probe) -> float:
    """``sum |w dL/dw|`` (Lee et al., ICLR 2019, as a proxy: Abdelfattah et al., arXiv 2101.08134)."""
    probe.gradients()
    return _total(w * w.grad for w in probe.weights if w.grad is not None)


def grad_norm(probe: Probe) -> float:
    """Sum over weight tensors of the Euclidean norm of the loss gradient (Abdelfattah et al., arXiv 2101.08134)."""
    probe.gradients()
    return sum(float(w.grad.norm()) for w in probe.weights if w.grad is not None)


def jacov(probe: Probe) -> float:
    """How little the Jacobians of different inputs correlate (Mellor et al., arXiv 2006.04647, version 1).

    ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues ``v`` of their correlation matrix, ``k = 1e-5``.
    """
    x = probe.x.clone().requires_grad_()
    probe.module(x).sum().backward()
    assert x.grad is not None
    jacobian = x.grad.flatten(1).double().numpy()
    if not np.all(jacobian.std(axis=1) > 0):
        return NOTHING
    values = np.linalg.eigvalsh(np.corrcoef(jacobian)) + 1e-5
    return float(-np.sum(np.log(np.abs(values)) + 1 / np.abs(values)))


def zen(probe: Probe) -> float:
    """Zen-score (Lin et al., arXiv 2102.01063): log change of the last feature map, batch norm's scaling undone.

    The change under noise of 1 % of the input, plus the log deviations that every batch norm divides by.
    """
    with torch.no_grad():
        for weight in probe.weights:
            weight.normal_(generator=probe.generator)
    maps: list[Tensor] = []
    scaling: list[float] = []

    def see_norm(before: Tensor, _: Tensor) -> None:
        variance = before.var(dim=[0, *range(2, before.ndim)], unbiased=False).mean()
        scaling.append(0.5 * math.log(float(variance) + 1e-8))

    def see_pool(before: Tensor, _: Tensor) -> None:
        maps.append(before)

    with torch.no_grad(), probe.watch("GlobalAveragePool", see_pool):
        with probe.watch("BatchNormalization", see_norm):
            probe.module(probe.x)
        if not maps:
            raise InvalidGraphError("zen compares feature maps before a GlobalAveragePool, and the network has none")
        first = maps[-1]
        probe.module(probe.x + 0.01 * probe.noise)
    change = float((first - maps[-1]).abs().sum(dim=[1, 2, 3]).mean())
    return math.log(change + 1e-8) + sum(scaling)


#: Score of a network through which nothing flows.
NOTHING = -1e9

#: Proxies that run the network.
PROXIES: dict[str, Callable[[Probe], float]] = {
    "nwot": nwot,
    "synflow": synflow,
    "jacov": jacov,
    "snip": snip,
    "grad_norm": grad_norm,
    "zen": zen,
}
#: Proxies that count.
COUNTS: dict[str, Callable[[onnx.ModelProto], int]] = {"params": count_parameters, "macs": count_macs}


def names() -> list[str]:
    """Names of all proxies, sorted."""
    return sorted({*PROXIES, *COUNTS})


def score(model: onnx.ModelProto, name: str, config: ProxyConfig | None = None) -> float:
    """One proxy of one network.

    Raises:
        UnknownNameError: No proxy has that name.
        InvalidGraphError: The network cannot be run, or lacks what the proxy looks at.
    """
    if name in COUNTS:
        return float(COUNTS[name](model))
    if name not in PROXIES:
        raise UnknownNameError("zero-cost proxy", name, names())
    return PROXIES[name](Probe(model, config or ProxyConfig()))


def scores(
    models: Sequence[onnx.ModelProto], proxies: Sequence[str], config: ProxyConfig | None = None
) -> pd.DataFrame:
    """Several proxies of many networks: a row a network, a column a proxy."""
    rows: list[dict[str, Any]] = [{name: score(model, name, config) for name in proxies} for model in models]
    return pd.DataFrame(rows, columns=list(proxies), dtype=float)


def _total(values: Iterable[Tensor]) -> float:
    """Sum of all absolute values."""
    return sum(float(value.detach().abs().sum()) for value in values)


class _First(nn.Module):
    """Passes its first input on, in the place of a batch norm."""

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return x
