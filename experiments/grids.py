"""What the benchmark runs: the core grid, the full grid, a grid of five minutes, joint metrics, and NDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nasrlm.bench.protocol import Protocol
from nasrlm.labels.few_shot import TARGET_LABELS
from nasrlm.labels.tables import available
from search_spaces.errors import DataNotFoundError

CORE = (
    Protocol(
        "nasbench201",
        (
            "cifar10_test",
            "pixel3_latency_ms",
            "eyeriss_latency_ms",
            "gold_6226_latency_ms",
            "titan_rtx_32_latency_ms",
        ),
        seeds=5,
        test=0,
    ),
    Protocol("nasbench101", ("cifar10_test",), seeds=5, test=7290),
    Protocol("nasbench_macro", ("cifar10_test",)),
    Protocol("transnas_micro", ("class_scene_test", "jigsaw_test")),
    Protocol("enas_macro", ("cifar10_weight_sharing",)),
    Protocol("ofa_mobilenetv3", ("imagenet_supernet_valid",)),
    Protocol("ofa_mobilenetv3_latency", ("2080ti_32_latency_ms",)),
    Protocol("mnasnet", ("imagenet_short_valid", "zcu102_latency_ms", "a100_throughput_ips")),
    Protocol("fbnet", ("pixel3_latency_ms", "gold_6226_latency_ms")),
    Protocol("darts", ("cifar10_nb301_surrogate",)),
)
#: Labels of NDS's ENAS space: its number is not published, its neighbours have 16 and 100.
ENAS_LABELS = 100
#: Bootstrap samples in the full grid: with ten draws of labels those say most, and a cheap method would spend its time
#: on samples.
FULL_RESAMPLES = 20


def core() -> list[Protocol]:
    """The grid that is run in full: five seeds of the two best known tables, three of the others."""
    return list(CORE)


def full() -> list[Protocol]:
    """Every label of every table that is present, 16 to 1,024 labels, ten seeds."""
    sizes = tuple(2**k for k in range(4, 11))
    tests = {protocol.table: protocol.test for protocol in CORE}
    found = []
    for table in available():
        labels = tuple(name for name in table.metrics if name not in ("params", "macs") and not name.startswith("zcp_"))
        test = tests.get(table.name, 5000)
        found.append(Protocol(table.name, labels, sizes, 10, test, resamples=FULL_RESAMPLES))
    return found


def quick() -> list[Protocol]:
    """One accuracy and one latency, little of everything."""
    small = Protocol("nasbench201", ("cifar10_test", "pixel3_latency_ms"), (16, 64), 1, 1000)
    return [small, replace(small, table="nasbench_macro", metrics=("cifar10_test",))]


def joint() -> list[Protocol]:
    """Accuracy and four latencies with 1,000 labels: are they learned together as well as each on its own?"""
    return [replace(CORE[0], sizes=(1000,))]


def nds() -> list[Protocol]:
    """The few-shot protocol of arXiv 2509.26476 on the tables of NDS that were imported.

    Raises:
        DataNotFoundError: None was.
    """
    present = {table.name for table in available()}
    names = [name for name in (*TARGET_LABELS, "nds_enas") if name in present]
    if not names:
        raise DataNotFoundError(
            "no table of NDS is on this machine; get data.zip from its home (see docs/data.md) and run "
            "`nasrlm data import nds_darts data.zip`, and likewise nds_enas, nds_nasnet, nds_pnas, nds_amoeba"
        )
    return [Protocol(name, ("cifar10_test",), (TARGET_LABELS.get(name, ENAS_LABELS),), 5) for name in names]


def results_name(grid: str) -> str:
    """What the runs and results of the grid called ``grid`` are called: the core grid is the benchmark itself."""
    return "kendall_tau" if grid == "core" else f"kendall_tau_{grid}"


#: Grids by name.
GRIDS: dict[str, Callable[[], list[Protocol]]] = {
    "core": core,
    "full": full,
    "quick": quick,
    "joint": joint,
    "nds": nds,
}
