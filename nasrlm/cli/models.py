"""Surrogates named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from nasrlm.search import SearchConfig
    from surrogates.base import Surrogate

#: The shipped checkpoint that verbs use when none is named.
DEFAULT_CHECKPOINT = "nasbench201"
#: Why a pretrained language model is not asked for values.
START_ONLY = "is a start for fine-tuning: of metrics it knows only how networks of a space rank"


def surrogate_of(name: str) -> Surrogate:
    """A checkpoint by folder or shipped name, or a new, unfitted surrogate by its registry name.

    Raises:
        UnknownNameError: It is none of them.
        CheckpointError: The folder is no checkpoint.
    """
    from surrogates import registry

    if Path(name).exists() or name in registry.checkpoints():
        return registry.load(name)
    if name in registry.names():
        return registry.create(name)
    choices = (*registry.checkpoints(), *registry.names())
    raise UnknownNameError("surrogate (checkpoint folder, shipped checkpoint, or kind)", name, choices)


def surrogate_for(config: SearchConfig, name: str = "") -> Surrogate:
    """What a search asks: the surrogate called ``name``, or the best that is shipped for it.

    A pretrained language model that is there to go on from is fitted to the labels that the search buys. When none is
    named and there are labels to buy, that is also what searches everywhere but in the space of ``DEFAULT_CHECKPOINT``;
    where labels come from a table, it begins with a checkpoint that saw none of that space.

    Args:
        config: The search.
        name: As for ``surrogate_of``; empty for none.

    Raises:
        UnknownNameError: As ``surrogate_of``.
        CheckpointError: As ``surrogate_of``.
        UsageError: There are no labels to fit it to.
    """
    from nasrlm.bench.pretrained import START, judged_from
    from nasrlm.few_shot import FewShotRLM, is_start
    from surrogates import registry

    if not name:
        trained = registry.load(DEFAULT_CHECKPOINT)
        at_home = config.space == DEFAULT_CHECKPOINT and set(config.objectives) <= set(trained.metrics)
        if at_home or not config.budget:
            return trained
        start = judged_from(START, config.space, registry.checkpoints()) if config.labels == "table" else START
        return FewShotRLM(start, seed=config.seed)
    chosen = surrogate_of(name)
    if not is_start(chosen):
        return chosen
    if not config.budget:
        raise UsageError(f"{name} {START_ONLY}; give the search labels to buy (--budget), or fine-tune it first")
    return FewShotRLM(name, seed=config.seed)
