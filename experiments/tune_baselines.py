"""Tune every learned method with the same number of trials on the same splits; the trials are logged.

    python -m experiments.tune_baselines --workers 2               # 6 trials of each method; an hour, resumes
    python -m experiments.tune_baselines --methods gcn --trials 2  # a few minutes

A trial is a configuration drawn from the method's declared choices (the first one is ``UNTUNED``), judged by
cross-validation *inside* 128 training labels: four folds, the same for all methods, drawn with a seed that the
benchmark does not report. So no label outside such a budget is looked at, and none of a reported draw except where
random draws overlap. The score is the mean Kendall tau of the folds over two accuracies and a latency.
``results/baseline_trials.csv`` has a row per trial and metric; the winners are printed, to be put into
``nasrlm/bench/settings.py`` (a test holds them against each other).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.record import RESULTS, command_of, write_csv
from nasrlm.bench.inputs import given, graphs, networks, table_of
from nasrlm.bench.methods import Method, find, flan_sizes, pair_batches
from nasrlm.bench.processes import completed
from nasrlm.bench.protocol import Protocol, draw
from nasrlm.metrics import kendall_tau

CSV = RESULTS / "baseline_trials.csv"
#: Where the linearised texts are kept; shared with the benchmark.
FOLDER = Path("runs") / "kendall_tau"
LABELS, FOLDS = 128, 4
#: The benchmark reports the seeds 0, 1, …; this one is far from them.
SEED = 1000
JUDGED = (
    ("nasbench201", "cifar10_test"),
    ("nasbench201", "pixel3_latency_ms"),
    ("nasbench101", "cifar10_test"),
)
KEYS = ["method", "trial", "table", "metric"]

#: Mark of settings for metrics of no device.
QUALITY = "quality:"
Choices = Mapping[str, Sequence[object]]
_TREES: Choices = {
    "config.trees": (50, 100, 200, 400),
    "config.depth": (2, 3, 4, 6),
    "config.learning_rate": (0.03, 0.1, 0.3),
    "config.members": (1, 3, 8),
}
_TRAINING: Choices = {
    "training.learning_rate": (3e-4, 1e-3, 3e-3),
    "training.weight_decay": (1e-5, 1e-3, 1e-1),
    "training.epochs": (100, 150, 200),
    "model.dropout": (0.0, 0.1, 0.2),
}
_LOSS: Choices = {"training.loss": ("hinge", "mse")}
_GRAPH: Choices = {
    **_TRAINING,
    **_LOSS,
    "model.width": (64, 128, 192),
    "model.layers": (2, 3, 4, 5),
    "model.readout": ("mean", "output", "both"),
    "quality:reading.sizes": (True, False),
    "quality:reading.dead": ("drop", "keep"),
}
_FLAN: Choices = {
    **_TRAINING,
    "training.margin": (0.05, 0.1, 0.3),
    "model.readout": ("both", "output", "mean"),
    "quality:reading.sizes": (False, True),
    "quality:reading.dead": ("drop", "keep"),
}
#: Choices of each method; those marked ``quality:`` hold for metrics of no device only (``Method.quality``).
CHOICES: dict[str, Choices] = {
    "xgboost_genome": _TREES,
    "xgboost_graph": {**_TREES, "config.buckets": (64, 256, 1024)},
    "mlp": {**_TRAINING, **_LOSS, "model.hidden": ((128, 128), (200, 200, 200), (512, 512))},
    "gcn": {**_GRAPH, "model.directed": (False, True)},
    "gin": _GRAPH,
    "gat": _GRAPH,
    "flan": _FLAN,
    "flan_zcp": _FLAN,
    "rlm_tokens": {
        "training.learning_rate": (1e-3, 2e-3, 4e-3),
        "training.weight_decay": (0.01, 0.05, 0.2),
        "training.smoothing": (0.01, 0.02, 0.05),
        "training.ranking": (0.0, 1.0),
        "model.dropout": (0.0, 0.1, 0.2),
    },
}


#: What trials start from: settings and, for metrics of no device, further ones; the surrogate's defaults where empty.
UNTUNED: dict[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
    "xgboost_genome": ({"config.features": "genome"}, {}),
    "xgboost_graph": ({"config.features": "graph"}, {}),
    "mlp": ({"model.cut": True}, {}),
    **dict.fromkeys(("gcn", "gin", "gat"), ({}, {"reading.dead": "drop"})),
    **dict.fromkeys(
        ("flan", "flan_zcp"), ({}, {"reading.dead": "drop", "reading.sizes": False, "model.readout": "both"})
    ),
    "rlm_tokens": (
        {
            "model.width": 96,
            "model.encoder_layers": 3,
            "model.decoder_layers": 2,
            "model.heads": ("producers", "consumers", "ancestors", "descendants", "all", "all"),
            "model.feed_forward": 256,
            "model.dropout": 0.1,
            "training.learning_rate": 2e-3,
            "training.threads": 1,
            "decoding.precision": "auto",
        },
        {},
    ),
}


@dataclass(frozen=True)
class Trial:
    """One configuration on one metric."""

    method: str
    trial: int
    table: str
    metric: str


def main() -> None:
    """Run the trials that are missing, then name the winners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(CHOICES))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=0, metavar="MINUTES", help="start no trial after so long")
    options = parser.parse_args()
    done = pd.read_csv(CSV) if CSV.exists() else pd.DataFrame(columns=KEYS)
    known = set(map(tuple, done[KEYS].to_numpy().tolist()))
    todo = [
        Trial(method, trial, table, metric)
        for trial in range(options.trials)
        for method in options.methods.split(",")
        for table, metric in JUDGED
        if find(method).applies(table_of(Protocol(table, (metric,)), FOLDER))
        and (method, trial, table, metric) not in known
    ]
    left = len(todo)
    calls = [(trial,) for trial in todo]
    for _, row in completed(run, calls, workers=options.workers, minutes=options.time_limit):
        done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
        write_csv(CSV, done, command=command_of("experiments.tune_baselines"), seed=SEED)
        print({**row, "settings": json.loads(str(row["settings"]))}, flush=True)
        left -= 1
    print(f"{left} trials are left")
    for method, (settings, tau) in winners(done).items():
        print(f"{method}: {tau:.4f} with {settings}")


def configuration(method: str, trial: int) -> dict[str, object]:
    """The settings of a trial: none for trial 0, else one choice of each kind at random."""
    if trial == 0:
        return {}
    rng = np.random.default_rng([SEED, trial, *method.encode()])
    return {key: choices[int(rng.integers(len(choices)))] for key, choices in CHOICES[method].items()}


def tried(name: str, changed: Mapping[str, object]) -> Method:
    """Method ``name`` by the settings of a trial, which go before what it starts from."""
    settings, quality = UNTUNED[name]
    standing = find(name)
    sized = pair_batches if standing.sized is flan_sizes else standing.sized  # which came after tuning
    return changed_method(replace(standing, settings=settings, quality=quality, sized=sized), changed)


def changed_method(standing: Method, changed: Mapping[str, object]) -> Method:
    """``standing`` by other settings, which go before its own."""
    quality = {key.removeprefix(QUALITY): value for key, value in changed.items() if key.startswith(QUALITY)}
    settings = {key: value for key, value in changed.items() if not key.startswith(QUALITY)}
    kept = {key: value for key, value in standing.quality.items() if key not in settings}
    return replace(standing, settings={**standing.settings, **settings}, quality={**kept, **quality})


def run(trial: Trial) -> dict[str, object]:
    """Cross-validate one configuration."""
    changed = configuration(trial.method, trial.trial)
    method = tried(trial.method, changed)
    begin = time.perf_counter()
    taus = [fold_tau(method, trial.table, trial.metric, fold) for fold in range(FOLDS)]
    return {
        **vars(trial),
        "settings": json.dumps(changed),
        "kendall_tau": round(float(np.mean(taus)), 4),
        "folds": " ".join(f"{tau:.4f}" for tau in taus),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def fold_tau(method: Method, table_name: str, metric: str, fold: int) -> float:
    """Kendall tau on one fold of the labels after learning from the others; 0 for constant predictions."""
    protocol = Protocol(table_name, (metric,), test=2)
    table = table_of(protocol, FOLDER)
    rows = draw(table, protocol, metric, LABELS, SEED).train
    held = np.arange(LABELS) % FOLDS == fold
    learn, judge = rows[~held], rows[held]
    labels = table.frame[[metric]].iloc[learn].reset_index(drop=True)
    if (known := given(table, method, learn)) is not None:
        labels = labels.join(known)
    surrogate = method.create(table, [metric], len(learn), SEED + fold)
    surrogate.fit(networks(table, learn), labels)
    prediction = surrogate.predict(
        graphs(table, method, [metric], judge, FOLDER),  # type: ignore[arg-type]
        [metric],
        given(table, method, judge),
    )
    return float(np.nan_to_num(kendall_tau(table.frame[metric].to_numpy()[judge], prediction.mean[:, 0])))


def winners(trials: pd.DataFrame) -> dict[str, tuple[dict[str, object], float]]:
    """Of every method the settings with the best mean tau over the metrics, among trials judged on all of them."""
    found: dict[str, tuple[dict[str, object], float]] = {}
    for name, part in trials.groupby("method"):
        scores = part.groupby("trial")["kendall_tau"].agg(["mean", "count"])
        complete = scores[scores["count"] == scores["count"].max()]["mean"]
        settings = part[part["trial"] == complete.idxmax()]["settings"].iloc[0]
        found[str(name)] = (json.loads(settings), float(complete.max()))
    return found


if __name__ == "__main__":
    main()
