"""The methods that are compared: a surrogate, its settings, and what it may read besides the networks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from nasrlm.bench.pretrained import (
    ENOUGH,
    FEW,
    FINETUNING,
    FREE,
    GIVEN_WEIGHT,
    START,
    finetuning_sizes,
    judged_from,
    like_of,
    weights_among,
)
from nasrlm.bench.settings import FLAN_LIVE, FLAN_ZCP_LIVE, LIVE, RLM_STEPS, SETTINGS
from nasrlm.labels.names import metric
from nasrlm.labels.tables import LabelTable
from search_spaces.errors import UnknownNameError
from surrogates import registry
from surrogates.base import Surrogate
from surrogates.gp import COUNTS
from surrogates.rlm.config import ReadingConfig

Settings = Mapping[str, object]
#: Settings of a language model that are no field of a config.
_PLAIN = ("value_scale",)
#: What the Gaussian processes read whatever the number of labels; named, as others make other runs.
GP: Settings = {"training.counts": COUNTS, "training.genes": True}
#: How one model of all metrics ranks: latencies are noisy, and the 30 of models of one metric costs them most.
LENIENT: Mapping[str, float] = {"training.ranking": 3.0}
#: Zero-cost proxies that are methods of their own; their values are columns ``zcp_<name>`` of a table.
PROXIES = ("nwot", "synflow", "jacov", "snip", "grad_norm", "zen")


@dataclass(frozen=True)
class Method:
    """A surrogate as it takes part.

    Attributes:
        name: Its name in results.
        surrogate: Its name in the registry of surrogates; ignored where there is a ``start``.
        settings: Settings that differ from the surrogate's defaults; see ``nasrlm.bench.settings``.
        reads: What it predicts from: ``networks`` are ONNX models, ``texts`` their linearised texts, kept between runs.
        column: A column of the table that it reads and cannot do without.
        optional: A column that it reads where the table has it.
        proxies: It reads all zero-cost proxies of the table, as ranks: through ``training.inputs``, or before it writes
            where there is a ``prefix``.
        prefix: Of a language model that learns to write proxies, too, and is given them when it predicts: weight of
            each of them beside a metric.
        joint: One fit answers all metrics that are labelled on the same rows.
        sized: Settings that depend on the number of labels.
        start: A checkpoint of the language model that every fit goes on from; see ``start_for``.
        quality: Settings for metrics such as accuracy, which operations that do not touch the result do not touch.
    """

    name: str
    surrogate: str
    settings: Settings = field(default_factory=dict)
    reads: Literal["networks", "texts"] = "networks"
    column: str = ""
    optional: str = ""
    proxies: bool = False
    prefix: float = 0.0
    joint: bool = False
    sized: Callable[[int], Settings] | None = None
    start: str = ""
    quality: Settings = field(default_factory=dict)

    def applies(self, table: LabelTable) -> bool:
        """Whether ``table`` has the columns that this method cannot do without."""
        columns = list(table.metrics)
        return (not self.column or self.column in columns) and (not self.proxies or bool(proxies_of(table)))

    def given(self, table: LabelTable) -> tuple[str, ...]:
        """The columns of ``table`` that the surrogate reads."""
        if self.proxies:
            return proxies_of(table)
        return tuple(name for name in (self.column, self.optional) if name and name in table.metrics)

    def chosen(self, table: LabelTable, metrics: Sequence[str], size: int) -> dict[str, object]:
        """All its settings for one fit on ``size`` labels of ``metrics`` of ``table``."""
        found = {**self.settings, **(self.sized(size) if self.sized else {})}
        found |= self.blind(metrics)
        if self.start:
            found.setdefault("start.like", like_of(metrics, _metrics_of(self.start_for(table))))
            found |= weights_among(metrics, size)
        given = self.given(table)
        if self.prefix:
            return found
        if self.proxies:
            found["training.inputs"] = given
        elif given:
            found["config.column"] = given[0]
        return found

    def blind(self, metrics: Sequence[str]) -> Settings:
        """``quality`` for ``metrics`` that dead operations do not touch, nothing for others."""
        return {} if any(metric(name).counts_dead for name in metrics) else self.quality

    def reading(self, metrics: Sequence[str]) -> ReadingConfig:
        """What a language model reads of a network to predict ``metrics``."""
        chosen = {**self.settings, **self.blind(metrics)}
        names = [known.name for known in fields(ReadingConfig) if f"reading.{known.name}" in chosen]
        return ReadingConfig(**{name: str(chosen[f"reading.{name}"]) for name in names})

    def identity(self, table: LabelTable, metrics: Sequence[str], size: int) -> dict[str, object]:
        """What a run depends on besides its labels: ``chosen``, ``weights``, and the very checkpoint it starts from."""
        start, weights = self.start_for(table), self.weights(table)
        found = self.chosen(table, metrics, size) | ({"start": content_of(start)} if start else {})
        return found | ({"metric_weights": weights} if weights else {})

    def weights(self, table: LabelTable) -> dict[str, float]:
        """Weights of what is learned beside the metrics, for ``metric_weights`` of a language model; else empty."""
        return dict.fromkeys(self.given(table), self.prefix) if self.prefix else {}

    def start_for(self, table: LabelTable) -> str:
        """The checkpoint that fits on ``table`` go on from: it saw no label of that space.

        See ``judged_from``.
        """
        return judged_from(self.start, table.space.name, registry.checkpoints())

    def create(self, table: LabelTable, metrics: Sequence[str], size: int, seed: int) -> Surrogate:
        """A new surrogate for ``size`` labels of ``metrics`` of ``table``.

        Raises:
            UnknownNameError: No surrogate of that name is installed, or a setting does not exist.
        """
        # copies of one surrogate may share what they have read
        surrogate = copy.deepcopy(_prototype(self.surrogate, self.start_for(table)))
        configure(surrogate, self.chosen(table, metrics, size), seed=seed)
        return surrogate


def rlm_steps(size: int) -> Settings:
    """Epochs and batch size that make ``RLM_STEPS`` steps of ``size`` labels."""
    steps = float(np.interp(np.log(size), np.log(list(RLM_STEPS)), list(RLM_STEPS.values())))
    batch = min(64, max(16, size // 4))
    return {"training.batch_size": batch, "training.epochs": max(1, round(steps * batch / size))}


def pair_batches(size: int) -> Settings:
    """Batch size of networks that learn from the pairs of a batch.

    8 as in FLAN's recipe with few labels; with more, larger batches order as well in a fraction of the time
    (``experiments/recipe_trials.py``, ``results/recipe_trials.csv``).
    """
    return {"training.batch_size": 8 if size < 64 else 16 if size < 256 else 32}


def gp_sizes(size: int) -> Settings:
    """Operations at their shapes are read where there are labels enough to tell what they are worth."""
    return {"training.shaped": True, "training.least_noise": 0.001} if size >= 64 else {}


def joint_sizes(size: int) -> Settings:
    """As ``finetuning_sizes``, but fresh networks are not ranked more strictly than the labels are."""
    chosen = finetuning_sizes(size)
    return {**chosen, "teaching.pool_ranking": LENIENT["training.ranking"]} if FEW <= size < ENOUGH else chosen


def flan_sizes(size: int) -> Settings:
    """Besides ``pair_batches``: the mean of all nodes reads out best with a handful of labels, later the output too."""
    return {**pair_batches(size), "model.readout": "mean" if size < 64 else "both"}


def proxies_of(table: LabelTable) -> tuple[str, ...]:
    """Names of the zero-cost columns of ``table``."""
    return tuple(name for name in table.metrics if name.startswith("zcp_"))


def configure(surrogate: Surrogate, settings: Settings, *, seed: int) -> None:
    """Change settings of a surrogate before it is fitted, and every seed in its configs.

    Args:
        surrogate: Its attributes that are dataclasses hold the settings; of a language model ``value_scale``, too.
        settings: ``<attribute>.<field>`` or ``<attribute>`` -> value.
        seed: The seed.

    Raises:
        UnknownNameError: There is no such setting.
    """
    configs = {name: value for name, value in vars(surrogate).items() if is_dataclass(value)}
    known = [f"{name}.{f.name}" for name, value in configs.items() for f in fields(value)]
    known += [name for name in _PLAIN if name in vars(surrogate)]
    for key in settings:
        if key not in known:
            raise UnknownNameError(f"setting of {type(surrogate).__name__}", key, known)
    for name in settings.keys() & _PLAIN:
        setattr(surrogate, name, settings[name])
    for name, config in configs.items():
        changed: dict[str, Any] = {"seed": seed} if f"{name}.seed" in known else {}
        changed |= {key.partition(".")[2]: value for key, value in settings.items() if key.partition(".")[0] == name}
        setattr(surrogate, name, replace(config, **changed))  # type: ignore[type-var]


def _tuned(name: str, surrogate: str, **options: Any) -> Method:
    return Method(name, surrogate, SETTINGS[name], **options)


def _pretrained(name: str, start: str, settings: Settings | None = None, **options: Any) -> Method:
    chosen = {**FINETUNING, **(settings or {})}
    options = {"sized": finetuning_sizes, **options}
    return Method(name, "rlm", chosen, reads="texts", start=start, quality=LIVE, **options)


def _scratch(name: str) -> Method:
    return _tuned(name, "rlm", reads="texts", sized=rlm_steps, quality=LIVE)


_METHODS = (
    Method("flops", "flops", optional="macs"),
    Method("params", "params", optional="params"),
    *(Method(name, name, column=f"zcp_{name}") for name in PROXIES),
    Method("gp", "gp", GP, sized=gp_sizes),
    Method("gp_zcp", "gp", GP, sized=gp_sizes, proxies=True),
    _tuned("xgboost_genome", "xgboost"),
    _tuned("xgboost_graph", "xgboost"),
    _tuned("mlp", "mlp", sized=pair_batches),
    _tuned("gcn", "gcn", sized=pair_batches, quality=LIVE),
    _tuned("gin", "gin", sized=pair_batches, quality=LIVE),
    _tuned("gat", "gat", sized=pair_batches, quality=LIVE),
    _tuned("flan", "flan", sized=flan_sizes, quality=FLAN_LIVE),
    _tuned("flan_zcp", "flan", sized=pair_batches, proxies=True, quality=FLAN_ZCP_LIVE),
    _pretrained("rlm", START),
)
#: The methods of the project's own tables.
METHODS: dict[str, Method] = {method.name: method for method in _METHODS}
_EXTRA = (
    _pretrained("rlm_free", FREE),
    _pretrained("rlm_alone", START, sized=partial(finetuning_sizes, pool=False)),
    _pretrained("rlm_joint", START, LENIENT, joint=True, sized=joint_sizes),
    _pretrained("rlm_zcp", START, {"training.joint": 1.0}, proxies=True, prefix=GIVEN_WEIGHT),
    _scratch("rlm_scratch"),
    _scratch("rlm_tokens"),
)
#: Not part of the grids: the language model from the checkpoint without labels, without networks that nobody labelled,
#: with one fit for all metrics, given zero-cost proxies, from scratch, and from scratch on tokens instead of lines.
EXTRA: dict[str, Method] = {method.name: method for method in _EXTRA}


def find(name: str) -> Method:
    """The method called ``name``; any other surrogate of the registry takes part with its defaults.

    Raises:
        UnknownNameError: Neither a method nor a surrogate has that name.
    """
    known = METHODS | EXTRA
    if name in known:
        return known[name]
    if name not in registry.names():
        raise UnknownNameError("method", name, {*known, *registry.names()})
    return Method(name, name)


@lru_cache(maxsize=8)
def content_of(checkpoint: str) -> str:
    """Name and hash of a checkpoint: another one of the same name gives other runs."""
    digest = hashlib.sha256()
    for path in sorted(registry.checkpoint_path(checkpoint).iterdir()):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.name.encode() + path.read_bytes())
    return f"{checkpoint} {digest.hexdigest()[:12]}"


def _metrics_of(checkpoint: str) -> list[str]:
    from surrogates.rlm.pretrained import read_config

    metrics: list[str] = read_config(registry.checkpoint_path(checkpoint))["metrics"]
    return metrics


@lru_cache(maxsize=64)
def _prototype(name: str, start: str) -> Surrogate:
    if start:
        from surrogates.rlm.few_shot import FineTunedRLM
        from surrogates.rlm.starting import StartConfig

        return FineTunedRLM(StartConfig(start))
    return registry.create(name)
