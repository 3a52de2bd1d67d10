"""Go on from free targets with real labels, of all search spaces but some: what others measured is a start, too.

    python -m experiments.transfer                                  # all spaces: surrogates/checkpoints/rlm-small
    python -m experiments.transfer --without nasbench201            # -> rlm-small-without-nasbench201
    python -m experiments.transfer --without nasbench201+fbnet,darts  # two: -> rlm-small-without-nasbench201-fbnet, …
    python -m experiments.transfer --without each                   # one for every space with labels

A label becomes its rank within its table: ``accuracy`` is the mean rank over the tasks of a table, ``latency`` over its
devices; four devices and the seven tasks of TransNAS-Bench-101 are learned by name, too. Networks of the free targets
are read in between, so that those are not forgotten. A checkpoint "without" a space saw no label of any network of that
space: fine-tuned on labels of that space, it may be judged on all others. A killed run resumes.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.fresh_graphs import StreamConfig, learn_ranks, read_shard
from experiments.pretrain import STATE, folder_of
from experiments.record import command_of, commit, print_of
from nasrlm.bench.files import replace_file
from nasrlm.bench.inputs import complete_proxies
from nasrlm.bench.machine import machine
from nasrlm.bench.pretrained import FREE, START
from nasrlm.labels.names import metric
from nasrlm.labels.tables import LabelTable, available, load_table
from nasrlm.metrics import kendall_tau
from search_spaces.errors import UsageError
from surrogates.rlm import RLM, TrainingConfig
from surrogates.rlm.config import ReadingConfig
from surrogates.rlm.inputs import as_text, in_orders
from surrogates.rlm.pretrained import SHIPPED
from surrogates.rlm.specialising import FREE_TRAINING

#: Devices that are learned by name, beside ``latency``: those that fronts are drawn for.
DEVICES = ("pixel3_latency_ms", "eyeriss_latency_ms", "gold_6226_latency_ms", "titan_rtx_32_latency_ms")
#: Tasks that are learned by name, beside ``accuracy``: they ask different things of one network, and which of them is
#: nearest to a new metric shows only with its labels.
TASKS = tuple(
    f"{task}_test"
    for task in ("class_scene", "class_object", "room_layout", "jigsaw", "segmentsemantic", "normal", "autoencoder")
)
ACCURACY, LATENCY = "accuracy", "latency"
TARGETS = (ACCURACY, LATENCY, *DEVICES, *TASKS)
#: Zero-cost proxies of whole networks, which some tables come with: free to compute, hence learned of all spaces.
PROXIES = tuple(
    f"zcp_{name}"
    for name in (
        *("epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm"),
        *("nwot", "plain", "snip", "synflow", "zen"),
    )
)
#: Columns that repeat or anticipate another: parts of a mean, accuracies after few epochs.
_PARTS = ("seed0", "seed1", "seed2", "ep4_", "ep12_", "ep36_")
TRAINING = replace(FREE_TRAINING, epochs=4, learning_rate=1.5e-3, smoothing=0.01, ema=0.99)


@dataclass(frozen=True)
class LabelConfig:
    """Which labels.

    Attributes:
        rows: Networks of each table, at most.
        characters: Length of the texts of each table together, at most: a network of a space without cells costs four
            times as much to read as a cell.
        seed: Seed of their choice and of the order of their lines.
        functions: Which functions are written; see ``ReadingConfig``.
    """

    rows: int = 4096
    characters: int = 2_500_000
    seed: int = 0
    functions: str = ReadingConfig().functions


def main() -> None:
    """Train and write one checkpoint for every name in ``--without``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default=FREE, help="checkpoint of experiments.pretrain, a folder or a shipped name")
    parser.add_argument("--name", default=START, help="of what is written")
    parser.add_argument("--without", default="", help="spaces, comma-separated, left out in turn, a+b at once; or each")
    parser.add_argument("--rows", type=int, default=LabelConfig().rows, help="networks of each table, at most")
    parser.add_argument("--characters", type=int, default=LabelConfig().characters, help="of the texts of each table")
    parser.add_argument("--shards", type=int, default=4, help="shards of networks with free targets")
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    parser.add_argument("--batch-size", type=int, default=TRAINING.batch_size)
    parser.add_argument("--learning-rate", type=float, default=TRAINING.learning_rate)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    functions = RLM.from_pretrained(options.start).reading.functions
    config = LabelConfig(options.rows, options.characters, functions=functions)
    stream = StreamConfig(functions=functions)
    training = replace(
        TRAINING,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        threads=options.threads,
    )
    tables = [info.name for info in available()]
    spaces = sorted({load_table(name).space.name for name in tables})
    wanted = spaces if options.without == "each" else options.without.split(",")
    groups = [tuple(filter(None, group.split("+"))) for group in wanted]
    if unknown := set(chain(*groups)) - set(spaces):
        raise UsageError(f"--without {','.join(sorted(unknown))}: there are labels of {', '.join(spaces)}")
    labels = pd.concat([labelled_texts(name, config) for name in tables], ignore_index=True)
    free = free_texts(stream, options.shards)
    for group in groups:
        out = options.out / (f"{options.name}-without-{'-'.join(group)}" if group else options.name)
        if (out / "README.md").is_file():
            print(f"{out} is there already")
            continue
        part = labels_without(labels, group)
        if (out / "config.json").is_file():  # a run that was killed while it judged
            rlm = RLM.from_pretrained(out)
        else:
            rlm = transfer(options.start, part, free, training, state=STATE / f"transfer-{out.name}")
            rlm.save_pretrained(out)
        scores = judge(rlm, labels, training.seed)
        (out / "README.md").write_text(card(rlm, part, group, options.start, scores), encoding="utf-8")
        print(out, scores.to_string(), sep="\n", flush=True)


def transfer(
    start: str | Path, labels: pd.DataFrame, free: pd.DataFrame, training: TrainingConfig, *, state: Path
) -> RLM:
    """The checkpoint ``start``, trained on ``labels`` and ``free`` together.

    Args:
        start: A folder, or a shipped name.
        labels: Columns ``text``, ``TARGETS`` and ``PROXIES``, NaN where nobody measured.
        free: Column ``text`` and the targets of ``start``.
        training: How.
        state: Folder for the state of an unfinished run.
    """
    rlm = RLM.from_pretrained(start)
    frame = pd.concat([labels, free], ignore_index=True)
    measured = [name for name in TARGETS if labels[name].notna().any()]
    proxies = [name for name in PROXIES if labels[name].notna().any()]
    names = [*rlm.metrics, *(name for name in (*measured, *proxies) if name not in rlm.metrics)]
    # A network has twenty free targets and few labels: together those weigh as much.
    weights = dict.fromkeys(measured, float(len(rlm.metrics)) / len(TARGETS))
    return rlm.finetune(
        frame["text"].tolist(),
        frame[names],
        training=training,
        metric_weights=weights,
        refit_scales=False,
        checkpoint=state,
        progress=True,
    )


def labels_without(labels: pd.DataFrame, spaces: Sequence[str]) -> pd.DataFrame:
    """What may be known before judging on ``spaces``: of their networks no label, but zero-cost proxies."""
    others = labels.copy()
    others.loc[labels["space"].isin(spaces), list(TARGETS)] = np.nan
    return others[others[[*TARGETS, *PROXIES]].notna().any(axis=1)]


def labelled_texts(name: str, config: LabelConfig) -> pd.DataFrame:
    """Networks of a table as texts, half of them in another order of lines, with ranks in ``TARGETS`` and ``PROXIES``.

    Where a network has dead operations its live part has a row of its own, which does not know the devices.
    """
    table = load_table(name)
    complete_proxies(table)
    ranks = ranks_of(table)
    known = np.flatnonzero(ranks[list(TARGETS)].notna().any(axis=1))
    # A name for these settings, the ranks, and what texts are today: of anything else it would be another file.
    probe = as_text(table.space.to_onnx(table.architectures[int(known[0])]), ReadingConfig("keep", config.functions))
    key = print_of([astuple(config), ranks.round(6).to_csv(index=False), probe])
    path = STATE / "labelled" / f"{name}-{key}.parquet"
    if not path.is_file():
        rng = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
        written, length = list[tuple[int, str, bool]](), 0
        for row in rng.permutation(known)[: config.rows]:
            model = table.space.to_onnx(table.architectures[int(row)])
            before = ""
            for reading in (ReadingConfig(dead, config.functions) for dead in ("keep", "drop")):
                text = as_text(model, reading)
                if text == before:  # nothing is dead
                    continue
                before = text
                other = in_orders(model, 1, reading, rng)[0]
                written.append((int(row), text if rng.random() < 0.5 else other, reading.live))
                length += len(text)
            if length >= config.characters:
                break
        rows, texts, parts = zip(*written, strict=True)
        frame = pd.DataFrame({"space": table.space.name, "table": name, "text": texts})
        frame = frame.join(ranks.iloc[list(rows)].reset_index(drop=True))
        frame.loc[np.array(parts), [LATENCY, *DEVICES]] = np.nan
        replace_file(path, lambda beside: frame.to_parquet(beside, compression="zstd"))
    return pd.read_parquet(path)


def ranks_of(table: LabelTable) -> pd.DataFrame:
    """The labels and proxies of a table as ranks in (0, 1): more accuracy is more, and so is more time.

    Columns are ``TARGETS`` and ``PROXIES``.
    """
    frame = table.frame
    chosen = [name for name in table.metrics if not any(part in name for part in _PARTS)]
    quality = [name for name in chosen if metric(name).direction == "max" and _is_quality(name)]
    slow = [name for name in chosen if metric(name).unit == "ms"]
    fast = [name for name in chosen if metric(name).unit == "images/s"]
    ranks = {
        ACCURACY: _mean_rank(frame[quality]),
        LATENCY: _mean_rank(pd.concat([frame[slow], -frame[fast]], axis=1)),
        **{name: _mean_rank(frame[[name] if name in chosen else []]) for name in (*DEVICES, *TASKS)},
        **{name: _mean_rank(frame[[name] if name in chosen else []]) for name in PROXIES},
    }
    return pd.DataFrame(ranks, index=frame.index, columns=[*TARGETS, *PROXIES])


def _is_quality(name: str) -> bool:
    return not metric(name).of_device and not name.startswith("zcp_")


def _mean_rank(values: pd.DataFrame) -> pd.Series:
    """The rank of the mean rank over columns, NaN where nothing is known."""
    mean = values.rank(pct=True).mean(axis=1)
    return (mean.rank() - 0.5) / max(1, int(mean.notna().sum()))


def free_texts(config: StreamConfig, shards: int) -> pd.DataFrame:
    """The first shards of ``experiments.pretrain``: ``text`` and ranks of the free targets."""
    folder = folder_of(config)
    ranks = learn_ranks(config, folder, shards)
    frame = pd.concat([read_shard(config, folder, index) for index in range(shards)], ignore_index=True)
    return frame[["text"]].join(ranks(frame))


def judge(rlm: RLM, labels: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Kendall tau on networks of every table, whether it learned of them or not: a row a table, a column a target."""
    rows = {}
    for name, part in labels.groupby("table"):
        part = part.sample(min(300, len(part)), random_state=seed)
        known = [target for target in TARGETS if target in rlm.metrics and part[target].notna().any()]
        predicted = rlm.predict(part["text"].tolist(), known).frame()
        rows[name] = {
            target: round(kendall_tau(part[target].to_numpy(), predicted[target].to_numpy()), 3) for target in known
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(TARGETS))


def card(rlm: RLM, labels: pd.DataFrame, without: Sequence[str], start: str | Path, scores: pd.DataFrame) -> str:
    """The model card."""
    size = sum(parameter.numel() for parameter in rlm.network.parameters())
    measured = labels[labels[list(TARGETS)].notna().any(axis=1)]
    spaces = ", ".join(sorted(measured["space"].unique()))
    free = f" {len(labels) - len(measured):,} more with zero-cost proxies alone;" if len(labels) > len(measured) else ""
    names = [str(column) for column in scores.columns]
    table = "\n".join(
        f"| {name} | {' | '.join('' if np.isnan(value) else f'{value:.3f}' for value in row)} |"
        for name, row in zip(scores.index, scores.to_numpy(dtype=float), strict=True)
    )
    seen = f"It never saw a label of a network of **{', '.join(without)}**.\n\n" if without else ""
    return f"""# RLM pretrained on free targets and real labels

{seen}A regression language model of {size:,} parameters, a start for fitting few labels. What it writes are ranks
within a search space, not percent or milliseconds.

- Start: `{Path(start).name}`, pretrained on free targets of networks of sixteen spaces (see its card).
- Data: {len(measured):,} texts of labelled networks of {spaces};{free}
  and networks with free targets only, so that those are not forgotten.
- Targets: `accuracy` (mean rank over the tasks of a table), `latency` (over its devices),
  {", ".join(f"`{name}`" for name in (*DEVICES, *TASKS))}; and the zero-cost proxies that some tables
  come with, whatever the space: {", ".join(f"`{name}`" for name in PROXIES)}.
- Command: `{command_of("experiments.transfer")}`; seed {rlm.training.seed}; commit {commit()}; {machine()}.
- Limits: surrogate labels (DARTS) and one-shot accuracies (ENAS macro) are among the labels. Networks that were
  labelled here must not be used to judge this checkpoint; those "without" a space are for that.

Kendall tau on at most 300 networks a table (of tables it learned from: seen in training):

| table | {" | ".join(names)} |
|{"---|" * (len(names) + 1)}
{table}
"""


if __name__ == "__main__":
    main()
