"""``nasrlm bench``: surrogates against one another, on a table of the project or one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasrlm.cli.output import AsJson, print_json, print_rows, split
from search_spaces.errors import UsageError


def bench(
    space: Annotated[str, typer.Argument(help="A table, usually called like its space; with --labels the space.")],
    metrics: Annotated[str, typer.Option(help="Metrics to predict, comma-separated.")],
    surrogates: Annotated[
        str, typer.Option(help="Methods (see docs/benchmark.md) or surrogates, installed ones too, comma-separated.")
    ] = "flops,params,xgboost_genome,xgboost_graph,gcn,flan,rlm",
    labels: Annotated[
        Path | None, typer.Option(help="CSV or parquet file of your own: a column arch, one column per metric.")
    ] = None,
    n: Annotated[str, typer.Option("--n", help="Numbers of labels to learn from, comma-separated.")] = "16,128",
    seeds: Annotated[int, typer.Option(help="Draws of labels.")] = 3,
    test: Annotated[int, typer.Option(help="At most so many test networks; 0 takes all.")] = 5000,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of runs and results; what is in it is kept.")] = Path(
        "runs/bench"
    ),
    workers: Annotated[int, typer.Option(help="Processes, each with one thread.")] = 1,
    minutes: Annotated[float, typer.Option(help="Start no run after so long; 0 has no limit.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare surrogates: Kendall tau on networks they have not seen, by number of labels.

    All see the same labels. Called again with the same --out it runs only what is missing. Writes runs.parquet,
    summary.csv, summary.md and learning curves.

    Example: nasrlm bench nasbench201 --metrics cifar10_test --surrogates flops,xgboost_graph,gcn --n 16,128
    """
    from nasrlm.bench.methods import find
    from nasrlm.bench.pages import write_results
    from nasrlm.bench.protocol import Protocol
    from nasrlm.bench.runs import plan, run_tasks

    try:
        sizes = tuple(int(size) for size in split(n))
    except ValueError:
        raise UsageError(f"--n {n!r} must be numbers separated by commas, e.g. 16,128") from None
    if workers < 1:
        raise UsageError(f"--workers {workers} must be at least 1")
    for name in split(surrogates):
        find(name)  # a wrong name is the first thing to say
    own = labels is not None
    protocol = Protocol(
        table=labels.stem if labels is not None else space,
        metrics=split(metrics),
        sizes=sizes,
        seeds=seeds,
        test=test,
        labels=str(labels) if own else "",
        space=space if own else "",
    )
    todo = plan([protocol], split(surrogates), out)
    left = run_tasks(todo.tasks, out, workers=workers, minutes=minutes, report=lambda line: typer.echo(line, err=True))
    results = write_results([protocol], split(surrogates), out, out, left_out=todo.left_out)
    if as_json:
        print_json(
            {
                "out": str(out),
                "left": left,
                "failed": results.failures,
                "left_out": todo.left_out,
                "rows": results.records(),
            }
        )
        return
    print_rows(results.records())
    for line in results.failures:
        typer.echo(f"failed: {line}")
    for line in todo.left_out:
        typer.echo(f"left out: {line}")
    if left:
        typer.echo(f"{left} runs are left; the same command goes on with them")
    typer.echo(f"results: {out / 'summary.md'}")
