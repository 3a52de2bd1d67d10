"""Zero-cost proxies of a table's networks, for the benchmark: seconds a network, so in stretches.

    python -m experiments.zero_cost_values --table nasbench_macro --proxies synflow,nwot --time-limit 60

Adds to ``runs/kendall_tau/zero_cost/<table>.parquet`` as ``zcp_<proxy>``, where ``experiments.kendall_tau`` finds them
once they are complete. Weights and inputs are random and seeded; ``--batch`` inputs make a pass.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

from experiments.kendall_tau import RUNS
from nasrlm.bench.files import replace_file
from nasrlm.bench.inputs import COMPUTED
from nasrlm.bench.processes import process_pool
from nasrlm.labels.tables import load_table
from search_spaces import registry
from search_spaces.base import Architecture
from surrogates.zero_cost import ProxyConfig, scores

#: Networks between two writes, per process.
CHUNK = 32


def main() -> None:
    """Compute what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--proxies", default="synflow")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=0, help="only the first so many rows; 0 takes all")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start nothing after so long")
    options = parser.parse_args()
    table, proxies = load_table(options.table), tuple(options.proxies.split(","))
    path = RUNS / "kendall_tau" / COMPUTED / f"{options.table}.parquet"
    # Not complete yet: the benchmark must not take a part of the networks for all.
    part = path.with_suffix(".part.parquet")
    found = next((pd.read_parquet(p).set_index("row") for p in (part, path) if p.is_file()), pd.DataFrame())
    columns = [f"zcp_{name}" for name in proxies]
    rows = range(options.rows or len(table))
    known = set(found.dropna(subset=columns).index) if set(columns) <= set(found) else set()
    todo = [row for row in rows if row not in known]
    start, step = time.monotonic(), CHUNK * options.workers
    with process_pool(options.workers) as pool:
        while todo and (not options.time_limit or time.monotonic() - start < 60 * options.time_limit):
            batch, todo = todo[:step], todo[step:]
            chunks = [batch[begin : begin + CHUNK] for begin in range(0, len(batch), CHUNK)]
            archs = [[table.architectures[row] for row in chunk] for chunk in chunks]
            for values in pool.map(compute, chunks, archs, [proxies] * len(chunks), [options.batch] * len(chunks)):
                found = values.combine_first(found)
            write(part, found)
            print(f"{len(rows) - len(todo)} of {len(rows)} networks of {options.table}", flush=True)
    if (left := len(table) - len(found.dropna(subset=columns))) > 0:
        print(f"{left} networks are left")
        return
    write(path, found)
    part.unlink(missing_ok=True)


def compute(rows: list[int], archs: list[Architecture], proxies: tuple[str, ...], batch: int) -> pd.DataFrame:
    """Proxies of some networks, one row each; the index is the row of the table."""
    space = registry.get(archs[0].space)
    values = scores([space.to_onnx(arch) for arch in archs], proxies, ProxyConfig(batch_size=batch))
    return values.add_prefix("zcp_").set_axis(pd.Index(rows, name="row"), axis=0)


def write(path: Path, found: pd.DataFrame) -> None:
    """Write all values known."""
    replace_file(path, found.rename_axis("row").reset_index().to_parquet)


if __name__ == "__main__":
    main()
