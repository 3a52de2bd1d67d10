"""Fresh architectures of all spaces as texts with free targets: generated in worker processes, kept on disk in shards.

Free are counts on the graph, and zero-cost proxies of small copies (``surrogates.small_networks``) of some of them.

A shard holds as many networks of every space and depends on the settings and its number alone. One canonical form in
``StreamConfig.held_out`` is never trained on: shards for judging hold only those. Several trainings with the same
settings share the shards. No label is read anywhere.
"""

from __future__ import annotations

import hashlib
import inspect
import multiprocessing
import os
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import onnx
import pandas as pd

import search_spaces
from experiments.space_ranks import SpaceRanks
from nasrlm.bench.files import replace_file
from nasrlm.bench.processes import pin_threads
from search_spaces.base import Architecture, SearchSpace
from search_spaces.errors import UsageError
from search_spaces.registry import BUILT_IN
from surrogates import small_networks, zero_cost
from surrogates.free_targets import TARGETS, free_targets
from surrogates.rlm.config import ModelConfig, ReadingConfig
from surrogates.rlm.encoders import reader_for
from surrogates.rlm.inputs import EncodedText, as_text, in_orders
from surrogates.small_networks import small_scores

FOLDER = Path("runs") / "pretrain" / "graphs"
#: Counts that are learned: ``live_linear`` is one in nearly every network.
COUNTS = tuple(name for name in TARGETS if name != "live_linear")
#: Shards that ranks within a space are learned from.
RANK_SHARDS = 8
#: Encoded shards that a stream keeps in memory, some 20 MB each, for further passes.
KEPT = 128


@dataclass(frozen=True)
class StreamConfig:
    """Which graphs.

    Attributes:
        spaces: Registry names; every shard holds as many networks of each.
        per_space: Networks of a space in a shard.
        functions: Which functions are written; see ``ReadingConfig``.
        own_order: Share of the networks written in their own order of lines; the others in a random one.
        held_out: One in so many canonical forms is kept for judging.
        proxies: Zero-cost proxies that are targets, too.
        proxied: Networks of a space in a shard whose proxies are computed; they cost more than all the rest.
        scarce: Spaces with a quarter of these: their cells take four times as long.
        unproxied: Spaces without proxies: long chains of large blocks, where a proxy costs most and tells least that
            the counts do not.
        seed: Seed of everything.
    """

    spaces: tuple[str, ...] = tuple(sorted(BUILT_IN))
    per_space: int = 64
    functions: str = ReadingConfig().functions
    own_order: float = 0.5
    held_out: int = 64
    proxies: tuple[str, ...] = ("synflow", "nwot", "jacov", "zen")
    proxied: int = 32
    scarce: tuple[str, ...] = ("amoeba", "darts", "enas", "nasnet", "pnas")
    unproxied: tuple[str, ...] = ("fbnet", "inception", "mnasnet", "ofa_mobilenetv3")
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.spaces or len(set(self.spaces)) < len(self.spaces):
            raise UsageError(f"spaces {self.spaces} must name each space once, e.g. nasbench201,nasbench101")
        for name, least in {"per_space": 1, "held_out": 2}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what is learned."""
        return (*COUNTS, *self.proxies)

    @property
    def networks(self) -> int:
        """Networks of a shard."""
        return self.per_space * len(self.spaces)

    @property
    def shard(self) -> int:
        """Rows of a shard: a network is read whole, and its live part."""
        return 2 * self.networks

    def proxied_of(self, space: str) -> int:
        """Networks of ``space`` in a shard whose proxies are computed."""
        return 0 if space in self.unproxied else self.proxied // 4 if space in self.scarce else self.proxied

    def key(self) -> str:
        """A name for these settings and for what texts and targets are today: other code makes other shards.

        Counts and texts are compared by value; proxies, whose last digits depend on the number of threads, by what
        they are computed with.
        """
        probe = make_shard(replace(self, per_space=1, proxied=0), 0, held_out=False)
        sources = [inspect.getsource(module) for module in (zero_cost, small_networks)] if self.proxied else []
        settings = asdict(self)
        del settings["functions"]  # the texts tell
        content = repr(sorted(settings.items())) + probe.to_csv(index=False) + "".join(sources)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


class Shard(NamedTuple):
    """Encoded networks and the ranks of their free targets, one row each."""

    graphs: list[EncodedText]
    targets: pd.DataFrame


def make_shard(config: StreamConfig, index: int, *, held_out: bool) -> pd.DataFrame:
    """Generate shard ``index``: columns ``space``, ``text``, the counts, and the proxies (NaN where not computed).

    Every network has two rows, one to read it whole and one to read its live part.
    """
    parts = []
    for name in config.spaces:
        rng = np.random.default_rng([config.seed, index, int(held_out), zlib.crc32(name.encode())])
        space = search_spaces.get(name)
        archs = [_draw(space, config, rng, held_out) for _ in range(config.per_space)]
        models = [space.to_onnx(arch) for arch in archs]
        scores = small_scores(name, archs[: config.proxied_of(name)], config.proxies)
        targets = free_targets(models).join(scores)
        whole = pd.DataFrame({"space": name, "text": _texts(models, config, rng, live=False)}).join(targets)
        live = whole.assign(
            text=_texts(models, config, rng, live=True),
            log_params=targets["live_log_params"],
            log_macs=targets["live_log_macs"],
        )
        parts += [whole, live]
    return pd.concat(parts, ignore_index=True)


def _texts(
    models: Sequence[onnx.ModelProto], config: StreamConfig, rng: np.random.Generator, *, live: bool
) -> list[str]:
    own = rng.random(len(models)) < config.own_order
    reading = ReadingConfig("drop" if live else "keep", config.functions)
    return [
        as_text(model, reading) if as_is else in_orders(model, 1, reading, rng)[0]
        for model, as_is in zip(models, own, strict=True)
    ]


def is_held_out(space: SearchSpace, arch: Architecture, config: StreamConfig) -> bool:
    """Whether ``arch`` is one that is kept for judging; the same for all functionally identical networks."""
    digest = hashlib.sha256(f"{space.name} {space.canonical(arch)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % config.held_out == 0


def _draw(space: SearchSpace, config: StreamConfig, rng: np.random.Generator, held_out: bool) -> Architecture:
    while True:
        arch = space.sample(rng)
        if is_held_out(space, arch, config) == held_out:
            return arch


def read_shard(config: StreamConfig, folder: Path, index: int, *, held_out: bool = False) -> pd.DataFrame:
    """Shard ``index`` from ``folder``; generated and kept if it is not there."""
    path = folder / f"{'held_out' if held_out else 'shard'}_{index:05d}.parquet"
    if not path.is_file():
        frame = make_shard(config, index, held_out=held_out)
        replace_file(path, lambda beside: frame.to_parquet(beside, compression="zstd"))
    return pd.read_parquet(path)


def learn_ranks(config: StreamConfig, folder: Path, count: int = RANK_SHARDS) -> SpaceRanks:
    """How targets become ranks within a space: by the first shards of ``count``."""
    first = pd.concat([read_shard(config, folder, index) for index in range(min(count, RANK_SHARDS))])
    return SpaceRanks.learn(first, config.targets)


def encoded_shard(
    config: StreamConfig, folder: Path, index: int, *, ranks: SpaceRanks, model: ModelConfig, start: Path
) -> Shard:
    """Shard ``index`` as inputs of the encoder of ``model``, by the reader that ``start`` holds."""
    frame = read_shard(config, folder, index)
    graphs = reader_for(model).load(start).encode(frame["text"].tolist(), context=model.context)
    return Shard(graphs, ranks(frame))


def _begin_worker() -> None:
    """One thread, and an end with the process that asked for it: a killed one cannot tell its workers to stop."""
    pin_threads()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


class GraphStream:
    """Encoded shards in order, a few of them made ahead by other processes.

    Args:
        config: Which graphs.
        folder: Where shards are kept.
        ranks: Makes ranks of targets.
        model: Whose inputs are made.
        start: Checkpoint folder with its reader.
        count: Distinct shards; shard ``i`` of the stream is number ``i % count``.
        workers: Processes that generate; 0 generates in this one.
    """

    def __init__(
        self,
        config: StreamConfig,
        folder: Path,
        *,
        ranks: SpaceRanks,
        model: ModelConfig,
        start: Path,
        count: int,
        workers: int = 1,
    ) -> None:
        self.config, self.count, self.workers = config, count, workers
        self._read = partial(encoded_shard, config, folder, ranks=ranks, model=model, start=start)
        self._pool: ProcessPoolExecutor | None = None
        self._begun: dict[int, Future[Shard]] = {}
        self._kept: dict[int, Shard] = {}

    def __enter__(self) -> Self:
        if self.workers:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_begin_worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def __call__(self, index: int) -> Shard:
        """Shard ``index`` of the stream; those after it are begun."""
        number = index % self.count
        if (kept := self._kept.get(number)) is not None:
            return kept
        if self._pool is None:
            found = self._read(number)
        else:
            self._begun = {later: future for later, future in self._begun.items() if later >= index}
            for later in range(index, index + self.workers + 1):
                if later not in self._begun and later % self.count not in self._kept:
                    self._begun[later] = self._pool.submit(self._read, later % self.count)
            found = self._begun.pop(index).result()
        if len(self._kept) < KEPT:
            self._kept[number] = found
        return found
