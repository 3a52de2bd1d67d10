"""Speed of the compact encoder on each runtime, and what it costs in rank correlation.

    python -m experiments.encoder_runtimes            # a few minutes on one core
    python -m experiments.encoder_runtimes --rounds 3 --batch 64

Times an encoder of the shipped checkpoint's shape with its projections to the decoder's keys and values, on one thread:
random weights, random wiring, all texts of one length. Rounds are interleaved, so that whatever else the machine does
meets every runtime alike; the table holds medians. Where the shipped NAS-Bench-201 checkpoint and the tables
(``$NASRLM_DATA``) are at hand, predictions of every runtime for held-out cells are compared with the true values, too:
the loss of Spearman's rho against float32 torch. Writes ``results/encoder_runtimes.csv``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from experiments.nasbench201_split import METRICS, load, split
from experiments.record import RESULTS, write_csv
from experiments.train_nasbench201 import MODEL
from nasrlm.metrics import spearman_rho
from search_spaces.errors import DataNotFoundError
from surrogates.rlm import RLM, DecodingConfig
from surrogates.rlm.inputs import GraphBatch
from surrogates.rlm.model import RLMNetwork
from surrogates.rlm.precision import autocast
from surrogates.rlm.pretrained import CONFIG_FILE, SHIPPED
from surrogates.rlm.runtimes import RUNTIMES
from surrogates.rlm.wired import WiredEncoder
from surrogates.text import linearize

COMMAND = "python -m experiments.encoder_runtimes"
SETTINGS = {
    "torch": DecodingConfig(),
    "torch-bfloat16": DecodingConfig(precision="bfloat16"),
    "torch-compiled": DecodingConfig(compile=True),
    "onnxruntime": DecodingConfig(encoder_runtime="onnxruntime"),
    "onnxruntime-int8": DecodingConfig(encoder_runtime="onnxruntime-int8"),
}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=35)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--cells", type=int, default=1000, help="held-out cells for the rank correlation")
    parser.add_argument("--out", type=Path, default=RESULTS / "encoder_runtimes.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    frame = speeds(options.tokens, options.batch, options.rounds)
    losses = correlations(options.cells)
    if losses is not None:
        frame = frame.merge(losses, on="runtime")
    print(frame.to_string(index=False))
    changed = {name: getattr(options, name) for name in ("tokens", "batch", "rounds", "cells")}
    words = [f"--{name} {value}" for name, value in changed.items() if value != parser.get_default(name)]
    write_csv(options.out, frame, command=" ".join([COMMAND, *words]), seed=0)


def speeds(tokens: int, batch: int, rounds: int) -> pd.DataFrame:
    """Median milliseconds a batch, and graphs a second, one row a runtime."""
    torch.manual_seed(0)
    network = RLMNetwork(MODEL, WiredEncoder(MODEL, 1024), len(METRICS), 3).eval()
    graphs = random_batch(tokens, batch)
    runtimes = {name: RUNTIMES[config.encoder_runtime](network, config) for name, config in SETTINGS.items()}
    taken: dict[str, list[float]] = {name: [] for name in SETTINGS}
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for name, runtime in runtimes.items():
                with autocast(SETTINGS[name].precision, torch.device("cpu")):
                    started = time.perf_counter()
                    runtime.memory(graphs)
                    if turn >= 2:  # the first two warm up and compile
                        taken[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return pd.DataFrame(
        {
            "runtime": list(medians),
            "tokens": tokens,
            "batch": batch,
            "rounds": rounds,
            "milliseconds": [round(1000 * seconds, 1) for seconds in medians.values()],
            "graphs_per_second": [round(batch / seconds) for seconds in medians.values()],
            "speedup": [round(medians["torch"] / seconds, 2) for seconds in medians.values()],
        }
    )


def random_batch(tokens: int, batch: int) -> GraphBatch:
    """Texts of one length with a token a line, each reading one or two of the lines before."""
    rng = np.random.default_rng(0)
    producers = np.broadcast_to(np.eye(tokens, dtype=bool), (batch, tokens, tokens)).copy()
    for line in range(1, tokens):
        for _ in range(2):
            producers[np.arange(batch), line, rng.integers(0, line, batch)] = True
    ancestors = producers.copy()
    for line in range(tokens):  # rows are in topological order
        ancestors[:, line] |= (ancestors[:, line, :, None] & ancestors).any(1)
    ids = torch.from_numpy(rng.integers(1, 1024, (batch, tokens)))
    operands = producers & ~np.eye(tokens, dtype=bool)
    wires = [torch.from_numpy(array) for array in (producers, ancestors, operands)]
    return GraphBatch(ids, torch.ones_like(ids, dtype=torch.bool), *wires)


def correlations(cells: int) -> pd.DataFrame | None:
    """Spearman's rho of each metric and its loss against float32 torch; None without checkpoint or table."""
    if not (SHIPPED / "nasbench201" / CONFIG_FILE).is_file():
        print("no rank correlations: the shipped checkpoint nasbench201 is not there")
        return None
    try:
        table = load()
    except DataNotFoundError as error:
        print(f"no rank correlations: {error}")
        return None
    rlm = RLM.from_pretrained("nasbench201")
    rows = np.random.default_rng(0).permutation(split(table).test)[:cells]
    encoded_texts = [linearize(table.space.to_onnx(table.architectures[row])) for row in rows]
    found = []
    for name, config in SETTINGS.items():
        rlm.decoding = replace(
            rlm.decoding,
            precision=config.precision,
            compile=config.compile,
            encoder_runtime=config.encoder_runtime,
        )
        mean = rlm.predict(encoded_texts, METRICS).mean
        truth = table.frame[list(METRICS)].to_numpy()[rows]
        found.append({"runtime": name, **{m: spearman_rho(truth[:, i], mean[:, i]) for i, m in enumerate(METRICS)}})
    rho = pd.DataFrame(found).set_index("runtime")
    loss = (rho.loc["torch"] - rho).round(5).add_prefix("rho_loss_")
    return pd.concat([rho.round(4).add_prefix("rho_"), loss], axis=1).reset_index()


if __name__ == "__main__":
    main()
