"""What a metric's name says: its direction and its unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity that is measured or predicted.

    Attributes:
        name: Column name in tables, e.g. ``"cifar10_test"`` or ``"pixel3_latency_ms"``.
        direction: ``"max"`` when larger is better, ``"min"`` when smaller is.
        unit: Unit of the values; empty for plain numbers.
    """

    name: str
    direction: Literal["max", "min"]
    unit: str

    @property
    def sign(self) -> float:
        """Factor that turns a value into a cost: 1 when minimised, -1 when maximised."""
        return 1.0 if self.direction == "min" else -1.0

    @property
    def of_device(self) -> bool:
        """Whether a device was measured."""
        return self.unit in ("ms", "mJ", "images/s", "op/B")

    @property
    def counts_dead(self) -> bool:
        """Whether operations that do not touch the result count: a device runs them, and sizes include them."""
        return self.of_device or self.name in ("params", "macs", "depth", "memory_bytes")


#: Names that follow no pattern: counts, and the TransNAS-Bench-101 tasks (mIoU in %, SSIM, negative loss).
_EXACT: dict[str, tuple[Literal["max", "min"], str]] = {
    "params": ("min", ""),
    "macs": ("min", ""),
    "depth": ("min", "layers"),
    "memory_bytes": ("min", "B"),
    "class_scene_test": ("max", "%"),
    "class_object_test": ("max", "%"),
    "jigsaw_test": ("max", "%"),
    "segmentsemantic_test": ("max", "% mIoU"),
    "normal_test": ("max", "SSIM"),
    "autoencoder_test": ("max", "SSIM"),
    "room_layout_test": ("max", "-loss"),
}
#: Naming rules, first match wins.
_RULES: tuple[tuple[str, Literal["max", "min"], str], ...] = (
    (r".+_latency_ms", "min", "ms"),
    (r".+_energy_mj", "min", "mJ"),
    (r".+_throughput_ips", "max", "images/s"),
    (r".+_arithmetic_intensity", "max", "op/B"),
    (r"zcp_.+", "max", ""),
    (r".+_(test|valid|train|weight_sharing|nb301_surrogate)", "max", "%"),
)
_CHOICES = (
    "params",
    "macs",
    "cifar10_test (<dataset>_<split>)",
    "pixel3_latency_ms (<device>_latency_ms)",
    "eyeriss_energy_mj (<device>_energy_mj)",
    "a100_throughput_ips (<device>_throughput_ips)",
    "zcp_nwot (zcp_<zero-cost proxy>)",
)


def metric(name: str) -> Metric:
    """The metric called ``name``.

    Known are ``<dataset>_<split>`` (accuracy in %), ``<device>_latency_ms``, ``<device>_energy_mj``,
    ``<device>_throughput_ips``, ``zcp_<proxy>``, ``params`` and ``macs``. Dataset and device may have several parts
    (``titan_rtx_32_latency_ms``); when the input is not the benchmark's usual one it comes first
    (``cifar100_pixel3_latency_ms``).

    Raises:
        UnknownNameError: The name follows none of the rules.
    """
    if name in _EXACT:
        return Metric(name, *_EXACT[name])
    for pattern, direction, unit in _RULES:
        if re.fullmatch(pattern, name):
            return Metric(name, direction, unit)
    raise UnknownNameError("metric", name, _CHOICES)
