"""The benchmark: Kendall tau of every method on every table, by number of labels; see docs/benchmark.md.

    python -m experiments.kendall_tau --quick                              # five minutes, into runs/kendall_tau_quick
    python -m experiments.kendall_tau --workers 2 --time-limit 60          # an hour of the core grid; resumes
    python -m experiments.kendall_tau --methods flan,rlm --spaces nasbench201 --sizes 16,128
    python -m experiments.kendall_tau --grid full --methods flops,params,xgboost_genome
    python -m experiments.kendall_tau --take cluster.parquet --summary     # only write what is here and there

Runs are kept under ``runs/<name>`` and never repeated, nor are those that ``results/<name>.parquet`` or a file given to
``--take`` holds from another machine, unless the settings of a method changed. After each stretch
``results/<name>.parquet`` (one row a run), ``.csv`` (means and differences), ``.md`` (tables) and figures are written
anew, of the full grid without scatter plots; ``<name>`` is ``kendall_tau`` for the core grid. Every method reads the
same labels; nothing depends on the order of the runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from experiments.grids import GRIDS, results_name
from experiments.record import RESULTS, as_markdown, command_of, provenance
from nasrlm.bench.inputs import labels_print, table_of
from nasrlm.bench.methods import METHODS
from nasrlm.bench.pages import is_current, write_results
from nasrlm.bench.runs import plan, run_tasks
from nasrlm.bench.store import Store

MODULE = "experiments.kendall_tau"
RUNS = Path("runs")


def main() -> None:
    """Run what is missing, then write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", choices=GRIDS, default="core")
    parser.add_argument("--quick", action="store_true", help="the same as --grid quick")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--spaces", default="", help="tables, comma-separated; all of the grid by default")
    parser.add_argument("--sizes", default="", help="numbers of labels, comma-separated; all of the grid by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no run after so long")
    parser.add_argument(
        "--predictions", action="store_true", help="repeat runs of the results whose predictions are not here"
    )
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument(
        "--take", type=Path, action="append", default=[], metavar="PARQUET", help="runs made elsewhere; may be repeated"
    )
    options = parser.parse_args()
    grid = "quick" if options.quick else options.grid
    name = results_name(grid)
    wanted = options.spaces.split(",") if options.spaces else None
    every = GRIDS[grid]()
    chosen = [protocol for protocol in every if wanted is None or protocol.table in wanted]
    if not chosen:
        parser.error(f"--spaces {options.spaces}: choose from {', '.join(protocol.table for protocol in every)}")
    budgets = {size for protocol in chosen for size in protocol.sizes}
    sizes = {int(size) for size in options.sizes.split(",")} if options.sizes else budgets
    if not sizes <= budgets:
        parser.error(f"--sizes {options.sizes}: choose from {', '.join(map(str, sorted(budgets)))}")
    folder, methods = RUNS / name, options.methods.split(",")
    out = folder if grid == "quick" else RESULTS
    if absent := [str(path) for path in options.take if not path.is_file()]:
        parser.error(f"--take {' '.join(absent)}: no such file; give a results/{name}.parquet of another machine")
    committed = out / f"{name}.parquet"
    if known := [path for path in (committed, *options.take) if path.is_file()]:
        labels = {(p.table, m): labels_print(table_of(p, folder), m) for p in every for m in p.metrics}
        for path in known:
            try:
                runs = pd.read_parquet(path)
            except ValueError as error:
                parser.error(f"{path} is no parquet file of runs: {error}")
            taken = Store(folder).restore(runs, every, labels, lambda run, protocol: is_current(run, protocol, folder))
            print(f"{taken} runs taken over from {path}")
    if not options.summary:
        todo = plan(chosen, methods, folder)
        left = run_tasks(
            [task for task in todo.tasks if task.size in sizes],
            folder,
            workers=options.workers,
            minutes=options.time_limit,
            predictions=options.predictions,
            report=lambda s: print(s, flush=True),
        )
        print(f"{left} runs are left")
    # The page shows everything that was ever run, not the last stretch alone.
    shown = list(dict.fromkeys([*METHODS, *methods, *Store(folder).methods(every)]))
    facts = as_markdown(provenance(command_of(MODULE), seed=None))
    left_out = plan(every, shown, folder).left_out
    scatters = grid != "full"  # of 125 metrics they would fill a repository
    results = write_results(every, shown, folder, out, name=name, facts=facts, left_out=left_out, scatters=scatters)
    print(f"{len(results.runs)} runs in {out / name}.md")
    for line in results.failures:
        print(f"failed: {line}")


if __name__ == "__main__":
    main()
