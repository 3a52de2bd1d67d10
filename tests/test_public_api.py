"""The public surface of ``nasrlm``: changing it is a decision, so this list is written out."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nasrlm
from search_spaces.errors import NasrlmError

SURFACE = {
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
}


def test_surface_is_exactly_this() -> None:
    assert set(nasrlm.__all__) == SURFACE
    assert set(dir(nasrlm)) == SURFACE | {"__version__"}


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_name_resolves_and_is_documented(name: str) -> None:
    thing = getattr(nasrlm, name)
    assert callable(thing)
    assert thing.__doc__
    if name.endswith("Error"):
        assert issubclass(thing, NasrlmError)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = nasrlm.no_such_thing


@pytest.mark.parametrize(
    "statement", ["import nasrlm", "import nasrlm.cli", "import search_spaces", "import surrogates"]
)
def test_imports_are_light(statement: str) -> None:
    heavy = "{'torch', 'onnx', 'pandas', 'transformers', 'matplotlib', 'scipy', 'pymoo'}"
    code = f"import sys; {statement}; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)
