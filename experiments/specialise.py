"""Starts for one search space each: ``rlm-small-without-<space>``, specialised in networks of the space.

    python -m experiments.specialise                          # every space with labels; minutes of a core each
    python -m experiments.specialise --spaces nasbench201     # -> surrogates/checkpoints/rlm-small-for-nasbench201

No label is read. Networks are drawn anew, and zero-cost proxies computed on small copies of some. Where a table comes
with proxies of whole networks (NAS-Bench-201, the sample of DARTS) these are better: there networks are drawn from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import search_spaces
from experiments.fresh_graphs import StreamConfig
from experiments.record import command_of, commit
from experiments.transfer import PROXIES, ranks_of
from nasrlm.bench.inputs import complete_proxies
from nasrlm.bench.machine import machine
from nasrlm.bench.pretrained import START
from nasrlm.bench.processes import pin_threads
from nasrlm.labels.tables import available, load_table
from nasrlm.metrics import kendall_tau
from search_spaces.base import Architecture
from search_spaces.errors import UsageError
from search_spaces.networks import Networks, sample_networks
from surrogates.free_targets import free_targets
from surrogates.rlm import RLM
from surrogates.rlm.pretrained import SHIPPED
from surrogates.rlm.specialising import TRAINING, SpecialisingConfig, specialise
from surrogates.small_networks import small_scores

#: Spaces of long networks, which cost four times as much to read.
HALF = ("darts", "enas_macro", "fbnet", "mnasnet", "ofa_mobilenetv3")
#: Networks to judge by, drawn with another seed.
JUDGED = 256


def main() -> None:
    """Make a start of every space asked for that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default="", help="comma-separated; all with labels by default")
    parser.add_argument("--networks", type=int, default=SpecialisingConfig().networks, help="half of long ones")
    parser.add_argument("--scored", type=int, default=SpecialisingConfig().scored, help="a quarter of slow ones")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    pin_threads()
    labelled = {load_table(info.name).space.name for info in available()}
    wanted = options.spaces.split(",") if options.spaces else sorted(labelled)
    if unknown := set(wanted) - labelled:
        raise UsageError(f"--spaces {','.join(sorted(unknown))}: there are labels of {', '.join(sorted(labelled))}")
    for space in wanted:
        out = options.out / f"{START}-for-{space}"
        if (out / "README.md").is_file():
            print(f"{out} is there already")
            continue
        config = SpecialisingConfig(options.networks // (2 if space in HALF else 1), options.scored)
        begin = time.process_time()
        networks, proxies = networks_of(space, config)
        before = f"{START}-without-{space}"
        rlm = RLM.from_pretrained(before)
        proxies = proxies[[name for name in proxies if name in rlm.metrics]]
        specialise(rlm, networks, proxies, training=replace(TRAINING, threads=1), progress=True)
        seconds = time.process_time() - begin
        rlm.save_pretrained(out)
        scores = judge({"before": RLM.from_pretrained(before), "after": rlm}, networks, config)
        (out / "README.md").write_text(card(space, before, networks, proxies, scores, seconds), encoding="utf-8")
        print(out, scores.to_string(), f"{seconds:.0f} s of a core", sep="\n", flush=True)


def networks_of(space: str, config: SpecialisingConfig) -> tuple[Networks, pd.DataFrame]:
    """Networks of ``space`` and their proxies, NaN where not computed.

    Those of its table that come with proxies first, then others, drawn anew and without: of the table's depth
    and width, wherever it has but one.
    """
    fresh = sample_networks(search_spaces.get(space), config.networks, seed=config.seed)
    for info in available():
        table = load_table(info.name)
        if table.space.name != space or not any(name in table.metrics for name in PROXIES):
            continue
        complete_proxies(table)
        ranks = ranks_of(table)[list(PROXIES)].dropna(axis=1, how="all")
        rows = np.random.default_rng([config.seed, 9]).permutation(len(table))[: config.networks]
        known = [table.architectures[int(row)] for row in rows]
        seen = {table.space.canonical(arch) for arch in known}
        others = [arch for identity, arch in alike(known, fresh).items() if identity not in seen]
        every = [*known, *others][: config.networks]
        return Networks(table.space, every), ranks.iloc[rows].reset_index(drop=True).reindex(range(len(every)))
    stream = StreamConfig()
    share = 0 if space in stream.unproxied else 4 if space in stream.scarce else 1
    scored = fresh.architectures[: config.scored // share if share else 0]
    return fresh, small_scores(space, scored, stream.proxies).reindex(range(len(fresh)))


def alike(known: Sequence[Architecture], fresh: Networks) -> dict[object, Architecture]:
    """``fresh`` with the genes that all of ``known`` share, by what is functionally identical."""
    shared = [
        genes[0] if len(set(genes)) == 1 else None for genes in zip(*(arch.genome for arch in known), strict=True)
    ]
    found = dict[object, Architecture]()
    for arch in fresh.architectures:
        genome = tuple(own if gene is None else gene for own, gene in zip(arch.genome, shared, strict=True))
        other = Architecture(arch.space, genome)
        if fresh.space.is_valid(other):
            found.setdefault(fresh.space.canonical(other), other)
    return found


def judge(models: dict[str, RLM], read: Networks, config: SpecialisingConfig) -> pd.DataFrame:
    """Kendall tau of counts of networks like those ``read``, of another seed: a row a target, a column a model."""
    fresh = sample_networks(read.space, JUDGED, seed=config.seed + 1)
    networks = Networks(read.space, list(alike(read.architectures, fresh).values()))
    truth = free_targets(list(networks))
    found = {}
    for name, rlm in models.items():
        known = [target for target in truth if target in rlm.metrics and np.ptp(truth[target]) > 0]
        predicted = rlm.predict(networks, known).frame()
        taus = {target: kendall_tau(truth[target].to_numpy(), predicted[target].to_numpy()) for target in known}
        found[name] = pd.Series(taus).round(3)
    return pd.DataFrame(found)


def card(
    space: str, before: str, networks: Networks, proxies: pd.DataFrame, scores: pd.DataFrame, seconds: float
) -> str:
    """The model card."""
    computed = ", ".join(f"`{name}`" for name in proxies) or "none"
    scored = int(proxies.notna().any(axis=1).sum())
    table = "\n".join(f"| {name} | {row.iloc[0]:.3f} | {row.iloc[1]:.3f} |" for name, row in scores.iterrows())
    return f"""# RLM specialised in {space}

The start `{before}`, gone on with what is free to know of networks of **{space}** alone. It never saw a label of one.
What it writes are ranks within the search space, not percent or milliseconds.

- Data: {len(networks):,} networks of the space, whole and live parts; those of benchmarks may be among them, test
  networks included, but no label is.
- Targets: counts on the graph; zero-cost proxies ({computed}) of {scored:,} of the networks.
- Command: `{command_of("experiments.specialise")}`; seed 0; commit {commit()}; {seconds:.0f} s of a core;
  {machine()}.
- Limits: see the card of `{before}`; of other spaces it forgets some.

Kendall tau on up to {JUDGED} networks drawn with another seed, some of which may have been read, too:

| target | before | after |
|---|---|---|
{table}
"""


if __name__ == "__main__":
    main()
