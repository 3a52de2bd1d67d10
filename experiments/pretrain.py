"""Pretrain the language model on free targets: fresh architectures of all sixteen spaces, no label of anything.

    python -m experiments.pretrain                             # -> surrogates/checkpoints/rlm-free; resumes if killed
    python -m experiments.pretrain --spaces nasbench201,nasbench101 --graphs 20480 --out runs/pretrain/cells
    python -m experiments.pretrain --begin rlm-free --seed 1   # go on, with networks not seen yet

Networks are generated while training, by ``--workers`` processes, and kept under ``runs/pretrain/graphs``: a further
training, of another size or with more ``--passes``, reads them. ``--minutes`` pauses: what is learned so far is written
to ``--out`` all the same, and the same command goes on. Networks of the benchmark's test sets may be among the graphs;
of their labels nothing is known here. Writes the checkpoint with its model card, and for a finished run of the shipped
size ``results/pretrain.csv``, of another ``pretrain_<size>.csv``: rank correlation on held-out networks, per space and
target.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from experiments.fresh_graphs import FOLDER, RANK_SHARDS, GraphStream, StreamConfig, learn_ranks, read_shard
from experiments.record import RESULTS, command_of, commit, write_csv
from experiments.space_ranks import SpaceRanks
from experiments.train_nasbench201 import MODEL
from nasrlm.bench.machine import machine
from nasrlm.metrics import kendall_tau, spearman_rho
from search_spaces.errors import UsageError
from surrogates.rlm import RLM, TrainingConfig
from surrogates.rlm.config import LINES, ReadingConfig
from surrogates.rlm.inputs import collate
from surrogates.rlm.pretrained import SHIPPED
from surrogates.rlm.specialising import FREE_TRAINING as TRAINING
from surrogates.rlm.streaming import Streamed, labelled, train_on_stream

STATE = Path("runs") / "pretrain"
#: Free targets carry no noise: all digits count, and nothing needs to be smeared. Dropout is for few labels. All of the
#: decoder's heads attend: the mean is too little to know a whole network by.
_TOKENS = replace(MODEL, dropout=0.0, flow=True)
_SMALL = replace(_TOKENS, encoder=LINES, ways=True)
MODELS = {
    "small": _SMALL,
    "base": replace(_SMALL, width=192, feed_forward=512),
    "tokens": _TOKENS,
}
VOCABULARY = 1024
#: Shards of held-out networks to judge by.
JUDGE_SHARDS = 1


def main() -> None:
    """Train, judge on held-out networks, write checkpoint, card and scores."""
    options = _options()
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    elif options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device auto or cpu")
    spaces = tuple(options.spaces.split(",")) if options.spaces else StreamConfig().spaces
    config = StreamConfig(
        spaces, options.per_space, functions_of(options.size), proxied=options.proxied, seed=options.seed
    )
    training = replace(
        TRAINING,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        threads=options.threads,
        seed=options.seed,
    )
    out = options.out or SHIPPED / ("rlm-free" if options.size == "small" else f"rlm-free-{options.size}")
    rlm, course = pretrain(
        options.size,
        config,
        training,
        graphs=options.graphs,
        passes=options.passes,
        minutes=options.minutes,
        workers=options.workers,
        begin=options.begin,
    )
    held = pd.concat([read_shard(config, folder_of(config), index, held_out=True) for index in range(JUDGE_SHARDS)])
    held, ranks = (
        held.reset_index(drop=True),
        learn_ranks(config, folder_of(config), math.ceil(options.graphs / config.networks)),
    )
    rlm.learn_distance(read_shard(config, folder_of(config), 0)["text"].tolist(), validation=held["text"].tolist())
    rlm.save_pretrained(out)
    scores = judge(rlm, held[["space", "text"]].join(ranks(held)))
    text = card(rlm, config, course, scores, options.passes, options.begin)
    (out / "README.md").write_text(text, encoding="utf-8")
    print(scores.groupby("target")[["spearman_rho", "kendall_tau"]].mean().round(4).to_string())
    print(course, f"-> {out}")
    if course.finished and options.out is None:
        name = "pretrain" if options.size == "small" else f"pretrain_{options.size}"
        write_csv(RESULTS / f"{name}.csv", scores, command=command_of("experiments.pretrain"), seed=options.seed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(MODELS), default="small")
    parser.add_argument("--graphs", type=int, default=24_576, help="distinct networks to learn from")
    parser.add_argument("--passes", type=int, default=8, help="how often each is learned from, whole and live part")
    parser.add_argument("--minutes", type=float, default=0.0, help="pause after so long; 0 goes on to the end")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--spaces", default="", help="comma-separated; all sixteen by default")
    parser.add_argument(
        "--per-space", type=int, default=StreamConfig().per_space, help="networks of a space in a shard"
    )
    parser.add_argument(
        "--proxied", type=int, default=StreamConfig().proxied, help="of these, networks whose proxies are computed"
    )
    parser.add_argument("--batch-size", type=int, default=TRAINING.batch_size, help="a GPU takes 512 in its stride")
    parser.add_argument("--learning-rate", type=float, default=TRAINING.learning_rate)
    parser.add_argument("--workers", type=int, default=1, help="processes that generate networks; 0 for none")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves torch's setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--begin", default="", help="checkpoint to go on from: a folder or a shipped name")
    parser.add_argument("--out", type=Path, default=None, help="checkpoint folder; the shipped one by default")
    return parser.parse_args()


def functions_of(size: str) -> str:
    """Which functions a model of ``size`` reads: where a line is a vector, a block should be a line."""
    return "all" if MODELS[size].encoder == LINES else "repeated"


def folder_of(config: StreamConfig) -> Path:
    """Where the shards of ``config`` are kept."""
    return FOLDER / config.key()


def pretrain(
    size: str,
    config: StreamConfig,
    training: TrainingConfig,
    *,
    graphs: int,
    passes: int = 1,
    minutes: float = 0.0,
    workers: int = 1,
    progress: bool = True,
    begin: str | Path = "",
) -> tuple[RLM, Streamed]:
    """A model trained on ``graphs`` fresh networks, each seen ``passes`` times; see ``train_on_stream``.

    The state of the training lies in a folder of its own for each choice of arguments that changes the result. With
    ``begin`` the model goes on from that checkpoint: its reader, scales and weights, with a new optimizer and schedule.

    Raises:
        CheckpointError: There is no checkpoint ``begin``.
        UsageError: It is of another size, or knows other targets.
    """
    folder, shards = folder_of(config), math.ceil(graphs / config.networks)
    settings = replace(training, threads=0)
    begun = _begun_with(begin, size, config) if begin else None
    asked = (folder.name, MODELS[size], settings, shards, passes, *([weights_of(begun)] if begun else []))
    name = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
    state = STATE / f"{size}-{name}"
    ranks = learn_ranks(config, folder, shards)
    start = state / "start"  # what a resumed run needs unchanged: reader, scales, first weights
    if not (start / "config.json").is_file():
        (begun or _untrained(size, config, training, ranks, shards)).save_pretrained(start)
    rlm = RLM.from_pretrained(start)
    rlm.training = training
    held = read_shard(config, folder, 0, held_out=True)
    validation = (rlm.encode(held["text"].tolist()), ranks(held))
    stream = GraphStream(
        config,
        folder,
        ranks=ranks,
        model=rlm.model,
        start=start,
        count=shards,
        workers=workers,
    )
    with stream:
        course = train_on_stream(
            rlm,
            stream,
            shards=shards * passes,
            shard=config.shard,
            validation=validation,
            checkpoint=state,
            minutes=minutes,
            progress=progress,
        )
    return rlm, course


def _untrained(size: str, config: StreamConfig, training: TrainingConfig, ranks: SpaceRanks, shards: int) -> RLM:
    first = pd.concat([read_shard(config, folder_of(config), index) for index in range(min(RANK_SHARDS, shards))])
    fresh = RLM(MODELS[size], training, reading=ReadingConfig(functions=config.functions), vocabulary=VOCABULARY)
    return fresh.initialise(first["text"].tolist(), ranks(first))


def _begun_with(begin: str | Path, size: str, config: StreamConfig) -> RLM:
    rlm = RLM.from_pretrained(begin)
    if rlm.model != MODELS[size]:
        raise UsageError(f"--begin {begin} is not of --size {size}: {rlm.model} instead of {MODELS[size]}")
    if set(rlm.metrics) != set(config.targets):
        known, asked = ", ".join(rlm.metrics), ", ".join(config.targets)
        raise UsageError(f"--begin {begin} knows {known}; pretraining is on {asked}")
    return rlm


def weights_of(rlm: RLM) -> str:
    """A name for the weights of ``rlm``."""
    tensors = rlm.network.state_dict()
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()[:12]


def judge(rlm: RLM, frame: pd.DataFrame) -> pd.DataFrame:
    """Loss and rank correlation on the networks of ``frame`` (ranks of targets), one row per space and target.

    Targets that do not vary in a space are left out.
    """
    texts = frame["text"].tolist()
    predicted = rlm.predict(texts).frame()
    losses = pd.DataFrame(digit_losses(rlm, frame), columns=list(rlm.metrics))
    rows = []
    for space, group in frame.groupby("space"):
        for target in rlm.metrics:
            part = group[group[target].notna()]
            if part[target].nunique() < 2:
                continue
            truth, guess = part[target].to_numpy(), predicted.loc[part.index, target].to_numpy()
            rows.append(
                {
                    "space": space,
                    "target": target,
                    "networks": len(part),
                    "loss": round(float(losses.loc[part.index, target].mean()), 4),
                    "spearman_rho": round(spearman_rho(truth, guess), 4),
                    "kendall_tau": round(kendall_tau(truth, guess), 4),
                }
            )
    return pd.DataFrame(rows)


@torch.inference_mode()
def digit_losses(rlm: RLM, frame: pd.DataFrame) -> np.ndarray:
    """Mean cross-entropy (nats) of the digits of every target of every network, ``(n, m)``; 0 where unknown."""
    data = labelled(rlm, rlm.encode(frame["text"].tolist()), frame[list(rlm.metrics)])
    forbidden, found = torch.from_numpy(~data.grammar()), []
    for rows in np.array_split(np.arange(len(frame)), math.ceil(len(frame) / 256)):
        tokens = torch.from_numpy(data.tokens(rows))
        alone = torch.zeros(len(rows), len(rlm.metrics), len(rlm.metrics), dtype=torch.bool)
        logits = rlm.network(collate([data.graphs[row] for row in rows]), tokens, alone)
        logits = logits.float().masked_fill(forbidden, -torch.inf)
        entropy = functional.cross_entropy(logits.movedim(-1, 1), tokens, ignore_index=-1, reduction="none")
        found.append(entropy.mean(-1).numpy())
    return np.concatenate(found)


def card(
    rlm: RLM, config: StreamConfig, course: Streamed, scores: pd.DataFrame, passes: int, begin: str | Path = ""
) -> str:
    """The model card."""
    size = sum(parameter.numel() for parameter in rlm.network.parameters())
    seen = course.step * rlm.training.batch_size
    state = "" if course.finished else f"**Paused after {course.step:,} of {course.total:,} steps.**\n\n"
    start = f"- Start: `{Path(begin).name}`, pretrained so before; what follows is about going on.\n" if begin else ""
    table = "\n".join(
        f"| {space} | {part.loss.mean():.3f} | {part.spearman_rho.mean():.3f} | {part.kendall_tau.mean():.3f} |"
        for space, part in scores.groupby("space")
    )
    return f"""# RLM pretrained on free targets

{state}A regression language model of {size:,} parameters that reads the linearised ONNX graph of a network and writes
what is free to know of it: counts on the graph, and zero-cost proxies of a small copy. It is a start for fitting few
labels: it knows nothing of accuracy or latency.

{start}- Data: About {seen:,} readings of freshly sampled networks ({passes} pass(es)) of {len(config.spaces)} search
  spaces ({", ".join(config.spaces)}), as many of each, {config.own_order:.0%} in their own order of lines, the others
  in a random one. No measured label was used. Networks of public benchmarks, their test sets included, may be among the
  graphs; one canonical form in {config.held_out} was kept out for the scores below.
- Targets: {", ".join(f"`{name}`" for name in rlm.metrics)}, each as its rank among the networks of the
  same space; the zero-cost proxies ({", ".join(config.proxies)}) of narrow, shallow copies, for {config.proxied} of
  {config.per_space} networks of a space (a quarter of that of {", ".join(config.scarce)}; none of
  {", ".join(config.unproxied)}).
- Command: `{command_of("experiments.pretrain")}`; seed {config.seed}; commit {commit()}; {machine()}.
- Training: {course.step:,} steps of {rlm.training.batch_size}, smoothed loss {course.loss:.3f}, {course.seconds:.0f} s
  in its last part.
- Limits: of spaces with few architectures most were seen in training, in other orders of their lines.

Held-out networks, mean over the targets (rank correlations within the space, where a target varies):

| space | loss (nats a digit) | Spearman rho | Kendall tau |
|---|---|---|---|
{table}
"""


if __name__ == "__main__":
    main()
