"""``nasrlm specialise``: a start that knows one search space well, before its first label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nasrlm.cli.output import AsJson, new_folder, print_json


def specialise(
    space: Annotated[str, typer.Argument(help="Name of the search space; see `nasrlm spaces`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new start.")],
    start: Annotated[str, typer.Option(help="Start to go on from: a folder or a shipped name.")] = "rlm-small",
    networks: Annotated[int, typer.Option(help="Different networks to read, at most.")] = 4096,
    scored: Annotated[
        int, typer.Option(help="Of these, networks whose zero-cost proxies are computed, on small copies; 0 for none.")
    ] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over them.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Specialise a start for fine-tuning in one search space, from what is free to know of its networks.

    Counts on the graph, and zero-cost proxies with --scored, of networks drawn from the space; no label is read. It
    takes minutes, once; then `nasrlm finetune` and `nasrlm search --surrogate` begin with the new start.

    Example: nasrlm specialise hiaml --networks 2048 --out runs/hiaml
    """
    import search_spaces
    from nasrlm.few_shot import is_start
    from search_spaces.errors import UsageError
    from search_spaces.networks import sample_networks
    from surrogates import registry
    from surrogates.rlm import RLM
    from surrogates.rlm import specialising as free
    from surrogates.small_networks import small_scores
    from surrogates.zero_cost import PROXIES

    new_folder(out)
    config = free.SpecialisingConfig(networks, scored, seed)
    training = replace(free.TRAINING, epochs=epochs, seed=seed)
    chosen = search_spaces.get(space)
    rlm = registry.load(start)
    if not isinstance(rlm, RLM) or not is_start(rlm):
        raise UsageError(f"--start {start} reads no lines or knows no free targets; begin with rlm-small, say")
    known = [name for name in PROXIES if name in rlm.metrics]
    if scored and not known:
        raise UsageError(f"--scored {scored}: {start} knows none of the proxies {', '.join(PROXIES)}; leave it out")
    drawn = sample_networks(chosen, config.networks, seed=seed)
    proxies = small_scores(space, drawn.architectures[:scored], known).reindex(range(len(drawn))) if scored else None
    free.specialise(rlm, drawn, proxies, training=training, progress=not as_json)
    rlm.save_pretrained(out)
    if as_json:
        print_json({"out": str(out), "start": start, "networks": len(drawn), "scored": min(scored, len(drawn))})
        return
    typer.echo(f"{len(drawn):,} networks read; start: {out}")
    typer.echo(f"next: nasrlm finetune {out} {space} --labels mine.csv --metrics cifar10_test --out runs/tuned")
