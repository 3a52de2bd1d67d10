"""``nasrlm finetune``: a trained surrogate learns further labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasrlm.cli.fitting import calibrate_by_labels, configure, few_shot, fit, prepare, tune
from nasrlm.cli.output import AsJson, print_json, print_rows, split


def finetune(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint to start from: a folder or a shipped name.")],
    space: Annotated[str, typer.Argument(help="Name of the search space; see `nasrlm spaces`.")],
    metrics: Annotated[str, typer.Option(help="Metrics to learn, comma-separated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new checkpoint.")],
    labels: Annotated[
        str, typer.Option(help="'table', the name of a table, or a CSV or parquet file with a column arch.")
    ] = "table",
    size: Annotated[int, typer.Option(help="Networks to learn from, drawn at random; 0 takes all.")] = 0,
    validation: Annotated[
        int, typer.Option(help="Networks of these set aside to keep the best weights and to calibrate by; 0 for none.")
    ] = 0,
    freeze: Annotated[
        str, typer.Option(help="Modules whose weights stay as they are, comma-separated, e.g. encoder.")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="A setting of the surrogate, e.g. epochs=10; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the training.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished training in --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a trained surrogate to further labels.

    They may be of a space or a metric that it does not know yet. A language model pretrained on free targets is fitted
    by the benchmark's recipe for few labels (nasrlm/bench/pretrained.py), and then knows the new metrics alone. Without
    --validation it learns how wide its intervals must be in four further fits (--option folds=0 spares them), or by the
    short fits that 64 to 999 labels take anyway (trust_folds). Less than 16 labels cannot tell.

    Example: nasrlm finetune nasbench201 nasbench_macro --metrics cifar10_test --size 64 --out runs/macro
    """
    from nasrlm.bench.pretrained import judged_from, saw_labels_of
    from nasrlm.cli.labelled import judge, read_labelled, set_aside
    from surrogates import registry

    prepare(out, resume=resume)
    trained = registry.load(checkpoint)
    learn, held_out = read_labelled(space, labels, split(metrics), size=size, seed=seed)
    learn, aside = set_aside(learn, validation)
    how = {"resume": resume, "progress": not as_json}
    how_many = len(learn.networks)
    start = few_shot(trained, checkpoint, split(metrics), how_many, split(freeze), option or (), seed=seed)
    if start is not None:
        if aside is None and not any(text.startswith("folds=") for text in option or ()):
            calibrate_by_labels(start, how_many)
        fitted = fit(start, learn, aside, out, **how)
    else:
        configure(trained, option or (), seed=seed)
        fitted = tune(trained, learn, aside, out, freeze=split(freeze), **how)
    rows = judge(fitted, held_out, split(metrics))
    if rows and saw_labels_of(checkpoint, space):
        typer.echo(
            f"{checkpoint} has learned labels of {space} before, also of networks held out: these figures flatter it; "
            f"start from {judged_from(checkpoint, space, registry.checkpoints())}",
            err=True,
        )
    if as_json:
        print_json({"out": str(out), "labels": len(learn.networks), "validation": validation, "held_out": rows})
        return
    if rows:
        print_rows(rows)
    typer.echo(f"checkpoint: {out}")
