"""Neural architecture search with a regression language model that reads ONNX graphs.

The names below are the public API; each is imported when first used, so that ``import nasrlm`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasrlm.few_shot import FewShotRLM
    from nasrlm.labels.names import Metric, metric
    from nasrlm.labels.tables import LabelTable, load_table
    from nasrlm.report import write_report
    from nasrlm.search import SearchConfig, SearchResult, run_search
    from search_spaces.base import Architecture, SearchSpace
    from search_spaces.errors import (
        CheckpointError,
        DataNotFoundError,
        InvalidArchitectureError,
        InvalidGraphError,
        NasrlmError,
        RunExistsError,
        TrainingError,
        UnknownNameError,
        UsageError,
    )
    from search_spaces.registry import get as get_space
    from surrogates.base import Prediction, Surrogate
    from surrogates.registry import load as load_surrogate
    from surrogates.rlm import RLM

__all__ = [
    "RLM",
    "Architecture",
    "CheckpointError",
    "DataNotFoundError",
    "FewShotRLM",
    "InvalidArchitectureError",
    "InvalidGraphError",
    "LabelTable",
    "Metric",
    "NasrlmError",
    "Prediction",
    "RunExistsError",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "Surrogate",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "get_space",
    "load_surrogate",
    "load_table",
    "metric",
    "run_search",
    "write_report",
]

#: Public name -> where it lives (``module`` or ``module:name`` where it has another name there).
_HOMES = {
    "RLM": "surrogates.rlm",
    "Architecture": "search_spaces.base",
    "FewShotRLM": "nasrlm.few_shot",
    "LabelTable": "nasrlm.labels.tables",
    "Metric": "nasrlm.labels.names",
    "Prediction": "surrogates.base",
    "SearchConfig": "nasrlm.search",
    "SearchResult": "nasrlm.search",
    "SearchSpace": "search_spaces.base",
    "Surrogate": "surrogates.base",
    "get_space": "search_spaces.registry:get",
    "load_surrogate": "surrogates.registry:load",
    "load_table": "nasrlm.labels.tables",
    "metric": "nasrlm.labels.names",
    "run_search": "nasrlm.search",
    "write_report": "nasrlm.report",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("nasrlm")
    if name not in __all__:
        raise AttributeError(f"module 'nasrlm' has no attribute {name!r}")
    module, _, attribute = _HOMES.get(name, "search_spaces.errors").partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
