"""Learning curves of a space, and predictions against true values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nasrlm.bench.protocol import Protocol
from nasrlm.bench.store import Store
from nasrlm.report.figures import label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
#: Families share a colour; the members differ by their marker.
_COLOURS = {
    "rlm": "#e8590c",
    "flan": "#2f6fed",
    "xgboost": "#2b8a3e",
    "gcn": "#7048e8",
    "gin": "#7048e8",
    "gat": "#7048e8",
    "mlp": "#c2255c",
}
_MARKERS = "osD^vP*X"


def learning_curves(summary: pd.DataFrame, ceilings: Mapping[tuple[str, str], float], path: Path) -> None:
    """Tau by number of labels, a panel per metric, a line per method, bars of the 95 % interval over seeds."""
    if summary.empty:
        return
    panels = list(summary.groupby(["table", "metric"], sort=False))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = _figure(5.2 * columns, 4.2 * lines)
    grid = np.atleast_1d(figure.subplots(lines, columns, squeeze=False)).ravel()
    looks = {name: look(name, index) for index, name in enumerate(dict.fromkeys(summary["method"]))}
    for axes, ((table, metric), panel) in zip(grid, panels, strict=False):
        for name, part in panel.groupby("method", sort=False):
            part = part.sort_values("n_labels")
            colour, marker = looks[str(name)]
            axes.errorbar(
                part["n_labels"], part["kendall_tau"], part["tau_half"].fillna(0), label=name, color=colour,
                marker=marker, markersize=4, linewidth=1, capsize=2,
            )  # fmt: skip
        ceiling = ceilings.get((str(table), str(metric)), float("nan"))
        if np.isfinite(ceiling):
            axes.axhline(ceiling, color="#868e96", linestyle=":", linewidth=1, label="label noise")
        axes.set_xscale("log", base=2)
        sizes = sorted(panel["n_labels"].unique())
        axes.set_xticks(sizes, labels=[str(size) for size in sizes])
        axes.set_xlabel("labels")
        axes.set_ylabel("Kendall tau")
        axes.set_title(f"{table}: {metric}", fontsize=10)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8)
    _save(figure, path)


def scatter(summary: pd.DataFrame, protocol: Protocol, store: Store, folder: Path) -> None:
    """``<table>_<metric>.png``: predicted against true of the best method and the best ``rlm``, seed 0, largest n.

    Where one of them was run on another machine its predictions are not here, and a plot that was drawn there stays.
    """
    if summary.empty:
        return
    for metric in protocol.metrics:
        part = summary[(summary["table"] == protocol.table) & (summary["metric"] == metric)]
        if part.empty:
            continue
        size = int(part["n_labels"].max())
        part = part[part["n_labels"] == size].sort_values("kendall_tau", ascending=False)
        folder_of = store.run_folder(protocol, metric, size, 0)
        found = [str(name) for name in part["method"] if (folder_of / f"{name}.npz").is_file()]
        shown = [*found[:1], *[name for name in found[1:] if name.startswith("rlm")][:1]]
        if not shown or not all(len(store.predictions(protocol, metric, size, 0, name).mean) for name in shown):
            continue
        truth = store.truth(protocol, metric, size, 0)
        figure = _figure(4.6 * len(shown), 4.4)
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
            predicted = store.predictions(protocol, metric, size, 0, name).mean
            low, high = np.quantile(truth, (0.01, 0.99))  # a few broken networks would take all the room
            inside = (truth >= low) & (truth <= high)
            axes.scatter(truth[inside], predicted[inside], s=4, alpha=0.25, linewidths=0, color=look(name, 0)[0])
            axes.axline((float(truth[inside].mean()),) * 2, slope=1, color="#868e96", linewidth=0.8)
            axes.set_xlabel(f"true {label(metric)}")
            axes.set_ylabel("predicted")
            axes.set_title(f"{protocol.table}, {name}, n = {size}", fontsize=10)
        _save(figure, folder / f"{protocol.table}_{metric}.png")


def look(method: str, index: int) -> tuple[str, str]:
    """Colour and marker of a method."""
    colour = next((c for prefix, c in _COLOURS.items() if method.startswith(prefix)), "#868e96")
    return colour, _MARKERS[index % len(_MARKERS)]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
