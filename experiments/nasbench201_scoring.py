"""How fast NAS-Bench-201 is scored on five metrics with uncertainty, from ONNX models, and where the time goes.

    python -m experiments.nasbench201_scoring    # -> results/nasbench201/scoring.csv

One process a core, each with one torch thread and its share of the cells in random order; every cell is seen once.
``graphs_per_second`` counts ``RLM.predict`` on ONNX models: text, tokens, encoder, decoder, and mean, deviation and
quantiles of five metrics; ``with_emission`` counts the making of the models from genomes, too. The shares of the stages
come from a tenth of the cells, which is scored stage by stage afterwards.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

import search_spaces
from experiments.nasbench201_split import METRICS
from experiments.record import RESULTS, command_of, write_csv
from surrogates.rlm import RLM
from surrogates.rlm.decoding import expand
from surrogates.rlm.inputs import collate
from surrogates.text import linearize

STAGES = ("onnx", "text", "tokens and wiring", "encoder", "decoder", "quantiles")
#: Models in memory at a time.
CHUNK = 1024


def main() -> None:
    """Score with one worker a core, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=15625)
    parser.add_argument("--runtimes", default="torch,onnxruntime")
    options = parser.parse_args()
    rows = []
    for number in range(options.rounds):
        for runtime in options.runtimes.split(","):
            with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
                shares = [(worker, options.workers, options.cells, runtime) for worker in range(options.workers)]
                found = pool.map(score, shares, chunksize=1)
            seconds = {stage: sum(part[stage] for part in found) for stage in STAGES}
            shown = {f"{stage.replace(' ', '_')}_share": s / sum(seconds.values()) for stage, s in seconds.items()}
            rates = {
                name: sum(part["cells"] / part[name] for part in found) for name in ("predict", "emit and predict")
            }
            row = {
                "round": number,
                "runtime": runtime,
                "workers": options.workers,
                "cells": options.cells,
                "graphs_per_second": round(rates["predict"], 1),
                "with_emission": round(rates["emit and predict"], 1),
                **{stage: round(share, 3) for stage, share in shown.items()},
            }
            rows.append(row)
            print(row, flush=True)
    frame = pd.DataFrame(rows)
    print(frame.groupby("runtime")[["graphs_per_second", "with_emission"]].agg(["median", "min", "max"]))
    write_csv(
        RESULTS / "nasbench201" / "scoring.csv", frame, command=command_of("experiments.nasbench201_scoring"), seed=0
    )


def score(share: tuple[int, int, int, str]) -> dict[str, float]:
    """Score one worker's cells; returns seconds of the whole and of each stage."""
    worker, workers, cells, runtime = share
    torch.set_num_threads(1)
    rlm = RLM.from_pretrained("nasbench201")
    rlm.decoding = replace(rlm.decoding, encoder_runtime=runtime)
    space = search_spaces.get("nasbench201")
    archs = list(space.enumerate())
    order = np.random.default_rng(0).permutation(len(archs))[:cells][worker::workers]
    whole, staged = np.split(order, [len(order) * 9 // 10])
    rlm.predict([space.to_onnx(archs[order[0]])])  # starts the runtime
    seconds = dict.fromkeys(STAGES, 0.0)
    emitted = predicted = 0.0
    for start in range(0, len(whole), CHUNK):
        began = time.perf_counter()
        models = [space.to_onnx(archs[index]) for index in whole[start : start + CHUNK]]
        middle = time.perf_counter()
        rlm.predict(models, METRICS)
        emitted, predicted = emitted + middle - began, predicted + time.perf_counter() - middle
    readout, scale = rlm.readout(), rlm.scales[0]
    indices = [rlm.metrics.index(metric) for metric in METRICS]
    for start in range(0, len(staged), rlm.decoding.batch_size):
        clock = [time.perf_counter()]
        models = [space.to_onnx(archs[index]) for index in staged[start : start + rlm.decoding.batch_size]]
        clock.append(time.perf_counter())
        texts = [linearize(model) for model in models]
        clock.append(time.perf_counter())
        encoded = rlm.encode(texts)
        clock.append(time.perf_counter())
        with torch.inference_mode():
            memory = readout.runtime.memory(collate(encoded))
            clock.append(time.perf_counter())
            outcomes = expand(rlm.network, memory, indices, scale.format, rlm.decoding.beams)
        clock.append(time.perf_counter())
        outcomes.mean(), outcomes.quantiles(rlm.decoding.levels)
        clock.append(time.perf_counter())
        for stage, taken in zip(STAGES, np.diff(clock), strict=True):
            seconds[stage] += taken
    return {**seconds, "cells": len(whole), "predict": predicted, "emit and predict": emitted + predicted}


if __name__ == "__main__":
    main()
