"""A start that knows one search space well: what is free to know of its networks, learned once more, of them alone.

A checkpoint of all spaces has seen a few thousand networks of each. Before the first label anybody can count on as many
more of the one that matters as he likes, and compute proxies of some: no label is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pandas as pd

from search_spaces.errors import UsageError
from surrogates.free_targets import free_targets
from surrogates.rlm.config import ReadingConfig, TrainingConfig
from surrogates.rlm.inputs import as_text
from surrogates.rlm.rlm import RLM

#: How free targets are learned, in pretraining, too: they carry no noise, and a few of them are asked for at once.
FREE_TRAINING = TrainingConfig(
    batch_size=128,
    learning_rate=2e-3,
    warmup=0.05,
    weight_decay=0.01,
    smoothing=0.0,
    digit_weights=(1.0, 0.7, 0.3),
    joint=0.3,
    metrics_at_once=6,
)
#: Eight passes over a few thousand networks are enough for a model that knows them from others.
TRAINING = replace(FREE_TRAINING, epochs=8, learning_rate=1e-3, ema=0.99)


@dataclass(frozen=True)
class SpecialisingConfig:
    """Which networks.

    Attributes:
        networks: Different networks to read, at most; a small space has fewer.
        scored: Of these, networks whose zero-cost proxies are computed.
        seed: Seed of their draw.
    """

    networks: int = 4096
    scored: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.networks < 2 or not 0 <= self.scored <= self.networks:
            raise UsageError(
                f"networks is {self.networks} and scored {self.scored}; two at least, and no more than these"
            )


def specialise(
    rlm: RLM,
    networks: Sequence[onnx.ModelProto],
    proxies: pd.DataFrame | None = None,
    *,
    training: TrainingConfig = TRAINING,
    progress: bool = False,
) -> RLM:
    """Go on with free targets of ``networks`` alone, each as its rank among them; whole networks, and live parts.

    Args:
        rlm: Knows free targets; is changed.
        networks: ``n`` networks of one space.
        proxies: ``n`` rows, columns that ``rlm`` knows besides; NaN where not computed.
        training: How.
        progress: Show a progress bar.

    Returns:
        ``rlm``.

    Raises:
        UsageError: ``rlm`` knows none of the targets, or none varies.
        UnknownNameError: It does not know a column of ``proxies``.
    """
    models = list(networks)
    counts = free_targets(models)
    targets = counts[[name for name in counts if name in rlm.metrics]]
    if proxies is not None:
        rlm.select([str(name) for name in proxies])
        targets = targets.join(proxies.reset_index(drop=True))
    functions = rlm.reading.functions
    whole = [as_text(model, ReadingConfig("keep", functions)) for model in models]
    live = [as_text(model, ReadingConfig("drop", functions)) for model in models]
    of_live = targets.assign(**{name: counts[f"live_{name}"] for name in ("log_params", "log_macs") if name in targets})
    both = pd.concat([targets.assign(text=whole), of_live.assign(text=live)], ignore_index=True)
    both = both.drop_duplicates("text", ignore_index=True)
    texts = both.pop("text").tolist()
    ranks = (both.rank() - 0.5) / both.notna().sum()
    varying = [name for name in ranks if len(np.unique(ranks[name].dropna())) > 1]
    if not varying:
        raise UsageError(f"{len(models)} networks differ in nothing that the model knows for free; give more")
    return rlm.finetune(texts, ranks[varying], training=training, refit_scales=False, progress=progress)
