"""Zero-cost proxies at a price that thousands of networks can pay: computed on a narrow, shallow copy of each.

A search space draws the same architecture at any width and input size. Proxies rank the copies nearly as they rank the
networks and take tens of milliseconds instead of seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import search_spaces
from search_spaces.base import Architecture, SearchSpace
from search_spaces.errors import UnknownNameError
from search_spaces.nds import DEPTHS, WIDTHS
from surrogates.zero_cost import NOTHING, ProxyConfig, score

#: A quarter of the widths, a third of the depths: the choices stay choices.
_NDS: Mapping[str, Any] = {
    "width": tuple(max(2, round(width / 4)) for width in WIDTHS),
    "depth": tuple(max(3, round(depth / 3)) for depth in DEPTHS),
    "input_size": 16,
}
#: Options of the small copies, by registry name.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "amoeba": _NDS,
    "darts": _NDS,
    "enas": _NDS,
    "enas_macro": {"channels": 8, "input_size": 16},
    "fbnet": {"input_size": 32, "classes": 10},
    "hiaml": {"width": 16, "input_size": 16},
    "inception": {"input_size": 16},
    "mnasnet": {"input_size": 32, "classes": 10},
    "nasbench101": {"channels": 16, "cells": 1, "input_size": 16},
    "nasbench201": {"channels": 8, "cells": 1, "input_size": 16},
    "nasbench_macro": {"width": 8, "input_size": 16},
    "nasnet": _NDS,
    "ofa_mobilenetv3": {"input_size": 32, "classes": 10},
    "pnas": _NDS,
    "transnas_micro": {"channels": 8, "input_size": 32, "classes": 10},
    "two_path": {"width": 8, "input_size": 16},
}
#: Inputs of a pass.
BATCH = 16


def small_scores(space: str, architectures: Sequence[Architecture], proxies: Sequence[str]) -> pd.DataFrame:
    """Proxies of the small copies: a row an architecture, a column a proxy; NaN where a proxy says nothing.

    Args:
        space: Registry name.
        architectures: Of that space.
        proxies: Names known to ``surrogates.zero_cost``.

    Raises:
        UnknownNameError: No small copy of that space is known, or no such proxy.
    """
    if space not in OPTIONS:
        raise UnknownNameError("space with small copies", space, OPTIONS)
    small = search_spaces.get(space, **OPTIONS[space])
    config = ProxyConfig(batch_size=BATCH)
    models = [small.to_onnx(_within(small, arch)) for arch in architectures]
    values = np.array([[score(model, name, config) for name in proxies] for model in models])
    values = values.reshape(len(models), len(proxies))
    return pd.DataFrame(np.where(values > NOTHING, values, np.nan), columns=list(proxies))


def _within(small: SearchSpace, arch: Architecture) -> Architecture:
    """``arch`` in a copy of its space where a gene, such as the input size, may be fixed."""
    genes = zip(arch.genome, small.cardinalities, strict=True)
    return Architecture(arch.space, tuple(gene if choices > 1 else 0 for gene, choices in genes))
