"""``nasrlm search``: the networks with the best trade-offs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasrlm.cli.models import surrogate_for
from nasrlm.cli.output import AsJson, print_json, print_rows, split

if TYPE_CHECKING:
    from nasrlm.labels.tables import LabelTable
    from nasrlm.search import SearchResult


def search(
    space: Annotated[str, typer.Argument(help="Name of the search space; see `nasrlm spaces`.")],
    objectives: Annotated[str, typer.Option(help="Metrics to optimise, comma-separated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")],
    surrogate: Annotated[
        str,
        typer.Option(
            help="Checkpoint (folder or shipped name), or a kind to fit from nothing, e.g. xgboost; by default "
            "nasbench201 in its space and without a budget, otherwise rlm-small, fitted to the labels bought."
        ),
    ] = "",
    budget: Annotated[int, typer.Option(help="True labels that may be bought; 0 trusts the surrogate.")] = 0,
    labels: Annotated[
        str,
        typer.Option(help="Where true labels come from: none, table or measure (ort_cpu_latency_ms, params, macs)."),
    ] = "none",
    population: Annotated[int, typer.Option(help="Size of NSGA-II's population.")] = 64,
    generations: Annotated[int, typer.Option(help="Generations of NSGA-II without a budget.")] = 80,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a space for the best trade-offs.

    Writes front.csv, evaluations.csv, run.json, front.png and report.html into the folder --out.

    Example: nasrlm search nasbench201 --objectives cifar10_test,pixel3_latency_ms --out runs/pixel3
    """
    import search_spaces
    from nasrlm.report import write_report
    from nasrlm.search import SearchConfig, run_search

    search_spaces.get(space)  # an unknown space is the first thing to say
    config = SearchConfig(
        space=space,
        objectives=split(objectives),
        budget=budget,
        population=population,
        generations=generations,
        seed=seed,
        labels=labels,  # type: ignore[arg-type]  # the config names the choices
    )
    table = table_of(space) if labels == "none" else None
    result = run_search(config, surrogate_for(config, surrogate), out, table=table, resume=resume, progress=not as_json)
    page = write_report(out)
    if as_json:
        fraction = result.hypervolume_fraction
        print_json({"out": str(out), "report": str(page), "hypervolume_fraction": fraction, "front": records(result)})
        return
    print_front(result)
    typer.echo(f"report: {page}")


def table_of(space: str) -> LabelTable | None:
    """The table of a space if it is on this machine: it adds true values to a front found without it."""
    from nasrlm.labels.tables import available, load_table

    return load_table(space) if any(table.name == space for table in available()) else None


def records(result: SearchResult) -> list[dict[str, Any]]:
    """The rows of a front."""
    rows: list[dict[str, Any]] = result.front.to_dict(orient="records")  # type: ignore[assignment]
    return rows


def print_front(result: SearchResult, *, limit: int = 12) -> None:
    """Print up to ``limit`` networks of a front, spread evenly over it: predicted ± deviation (true value)."""
    front = result.front
    step = max(1, -(-len(front) // limit))
    rows = []
    for _, row in front.iloc[::step].iterrows():
        cells = {"architecture": row["arch"]}
        for name in result.config.objectives:
            cells[name] = f"{row[name]:.4g} ± {row[f'{name}_std']:.2g}".removesuffix(" ± nan")
            if front[f"{name}_true"].notna().any():
                cells[f"{name}, true"] = f"{row[f'{name}_true']:.4g}".replace("nan", "–")
        rows.append(cells)
    fraction = result.hypervolume_fraction
    worth = "" if fraction is None else f", worth {fraction:.1%} of the exact hypervolume"
    shown = f"; one in {step} is shown" if step > 1 else ""
    typer.echo(f"{len(front)} networks on the front{worth}{shown}")
    print_rows(rows)
