"""Memory of scoring all 423,624 cells of NAS-Bench-101 in one ``predict`` a process, and how it grows.

    python -m experiments.nasbench101_memory                   # -> results/nasbench101_memory.csv
    python -m experiments.nasbench101_memory --cells 5000 --workers 1 --out runs/memory.csv     # a short trial

A small RLM is trained for seconds on a few hundred cells (memory and speed do not depend on what it has learned). Each
worker, a process with one torch thread, then hands its share of the cells to one call of ``RLM.predict``: ONNX graph,
text, tokens, exact decoding of one metric with mean, deviation and quantiles. Cells come from the table in
``$NASRLM_DATA`` where it is at hand, else from the enumeration. Peaks are those of resident memory as the kernel counts
them; pages that processes share count in each. Only the workers import torch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import onnx
import pandas as pd

import search_spaces
from experiments.enumerate_nasbench101 import enumerate_cells
from experiments.record import RESULTS, command_of, write_csv
from search_spaces.base import Architecture, SearchSpace
from search_spaces.nasbench101 import NASBench101
from search_spaces.networks import Networks

METRIC = "params"
LIMIT_MIB = 3 * 1024


class Watched(Networks):
    """Networks that note this process's peak memory whenever the next part of them is asked for."""

    def __init__(self, space: SearchSpace, architectures: Sequence[Architecture]) -> None:
        super().__init__(space, architectures)
        self.peaks: list[tuple[int, float]] = []

    @overload
    def __getitem__(self, index: int) -> onnx.ModelProto: ...
    @overload
    def __getitem__(self, index: slice) -> Networks: ...
    def __getitem__(self, index: int | slice) -> onnx.ModelProto | Networks:
        if isinstance(index, slice):
            self.peaks.append((index.start, peak_mib()))
        return super().__getitem__(index)


def main() -> None:
    """Train, score, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, help="score the first so many only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS / "nasbench101_memory.csv")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path, checkpoint = Path(folder) / "cells.parquet", Path(folder) / "checkpoint"
        with context.Pool(1) as pool:  # in a process of its own: what it needs is given back
            count = pool.apply(prepare, (path, checkpoint, options.cells))
        with context.Pool(options.workers) as pool:
            shares = [(path, checkpoint, worker, options.workers) for worker in range(options.workers)]
            found = pool.map(score, shares, chunksize=1)
    peaks = [part["peak_mib"] for part in found]
    row = {
        "cells": count,
        "workers": options.workers,
        "parameters": int(found[0]["parameters"]),
        "wall_s": round(max(part["seconds"] for part in found), 1),
        "cells_per_second": round(count / max(part["seconds"] for part in found), 1),
        "rss_before_mib": round(max(part["before_mib"] for part in found)),
        "peak_rss_of_first_quarter_mib": round(max(part["quarter_mib"] for part in found)),
        "peak_rss_mib": round(max(peaks)),
        "peak_rss_of_all_processes_mib": round(sum(peaks) + peak_mib()),
    }
    write_csv(options.out, pd.DataFrame([row]), command=command_of("experiments.nasbench101_memory"), seed=0)
    print(row)
    if row["peak_rss_of_all_processes_mib"] > LIMIT_MIB:
        raise SystemExit(f"{row['peak_rss_of_all_processes_mib']} MiB exceed the {LIMIT_MIB} MiB that were promised")


def prepare(path: Path, checkpoint: Path, cells: int | None) -> int:
    """Write the cells and a checkpoint as large as the shipped one; returns how many cells there are."""
    import torch

    from experiments.train_nasbench201 import MODEL
    from surrogates.rlm import RLM, TrainingConfig

    torch.set_num_threads(1)
    columns = ["n_vertices", "adjacency_bits", "ops", METRIC]
    table = Path(os.environ.get("NASRLM_DATA", "")) / "nasbench101.parquet"
    frame = pd.read_parquet(table, columns=columns) if table.is_file() else enumerate_cells()[columns]
    sample = frame.sample(256, random_state=0)
    labels = sample[[METRIC]].astype(float).reset_index(drop=True)
    rlm = RLM(MODEL, TrainingConfig(epochs=2, threads=1))
    rlm.fit(Networks(_space(), _architectures(sample)), labels).save_pretrained(checkpoint)
    frame = frame.iloc[:cells]
    frame.to_parquet(path, index=False)
    return len(frame)


def score(share: tuple[Path, Path, int, int]) -> dict[str, float]:
    """Score one worker's cells; returns seconds and memory."""
    import torch

    from surrogates.rlm import RLM

    path, checkpoint, worker, workers = share
    torch.set_num_threads(1)
    rlm = RLM.from_pretrained(checkpoint)
    networks = Watched(_space(), _architectures(pd.read_parquet(path).iloc[worker::workers]))
    before, started = peak_mib(), time.perf_counter()
    prediction = rlm.predict(networks, [METRIC], progress=worker == 0)
    seconds = time.perf_counter() - started
    assert prediction.mean.shape == (len(networks), 1)
    quarter = [peak for start, peak in networks.peaks if start <= len(networks) / 4]
    return {
        "seconds": seconds,
        "before_mib": before,
        "quarter_mib": quarter[-1],
        "peak_mib": peak_mib(),
        "parameters": sum(parameter.numel() for parameter in rlm.network.parameters()),
    }


def peak_mib() -> float:
    """The largest resident memory of this process so far, in MiB.

    Linux's ``getrusage`` is no help here: a process started by a large one inherits that one's peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    import resource  # not on Windows

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 1024


def _space() -> NASBench101:
    space = search_spaces.get("nasbench101")
    assert isinstance(space, NASBench101)
    return space


def _architectures(frame: pd.DataFrame) -> list[Architecture]:
    space = _space()
    rows = zip(frame["n_vertices"], frame["adjacency_bits"], frame["ops"], strict=True)
    return [space.from_columns(n, bits, ops) for n, bits, ops in rows]


if __name__ == "__main__":
    main()
