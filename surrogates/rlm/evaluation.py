"""Looks at validation graphs: rank correlation while training, temperatures of the digits afterwards."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from scipy.stats import kendalltau

from search_spaces.errors import UsageError
from surrogates.numbers import NumberFormat
from surrogates.rlm.config import DecodingConfig
from surrogates.rlm.decoding import expand
from surrogates.rlm.inputs import collate
from surrogates.rlm.labelled import LabelledGraphs
from surrogates.rlm.model import RLMNetwork

#: Temperatures that ``calibrate`` tries; above 1 flattens digits that are too sure.
TEMPERATURES = np.geomspace(0.25, 16.0, 97)
#: Validation labels that a metric needs before its temperature is fitted.
LEAST_LABELS = 16
_BATCH = 256


def check_validation(data: LabelledGraphs) -> None:
    """Refuse labels that have no rank correlation.

    Raises:
        UsageError: No metric has two different labels.
    """
    if not any(len(np.unique(column[~np.isnan(column)])) > 1 for column in data.labels.T):
        raise UsageError("no metric has two different validation labels; give more validation graphs")


def rank_correlation(network: RLMNetwork, data: LabelledGraphs, accelerator: Accelerator) -> float:
    """Mean Kendall tau over the metrics that have two different labels; the graphs are split over the processes.

    A metric whose predictions are all equal counts as 0.
    """
    expected = expected_numbers(network, data, accelerator)
    found = []
    for column, truth in enumerate(data.labels.T):
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) > 1:
            found.append(np.nan_to_num(kendalltau(truth[known], expected[known, column]).statistic))
    return float(np.mean(found))


@torch.inference_mode()
def expected_numbers(network: RLMNetwork, data: LabelledGraphs, accelerator: Accelerator) -> np.ndarray:
    """Every number on its scale, ``(n, m)``, as ``RLM.predict`` computes it."""
    groups: dict[NumberFormat, list[int]] = {}
    for column, scale in enumerate(data.scales):
        groups.setdefault(scale.format, []).append(column)
    expected = np.zeros(data.labels.shape)
    order = sorted(range(len(data.graphs)), key=lambda row: len(data.graphs[row].ids))
    own = order[accelerator.process_index :: accelerator.num_processes]
    for start in range(0, len(own), _BATCH):
        rows = own[start : start + _BATCH]
        memory = network.memory(collate([data.graphs[row] for row in rows], accelerator.device))
        for number_format, columns in groups.items():
            names = [data.metrics[column] for column in columns]
            outcomes = expand(network, memory, names, number_format, DecodingConfig().beams)
            expected[np.ix_(rows, columns)] = outcomes.point(data.scales[columns[0]].centre)
    whole = accelerator.reduce(torch.from_numpy(expected).to(accelerator.device, torch.float32), reduction="sum")
    return np.asarray(whole.cpu().numpy())


@torch.inference_mode()
def calibrate(network: RLMNetwork, data: LabelledGraphs) -> tuple[float, ...]:
    """The temperature of each metric's digits under which the validation labels are likeliest.

    One number a metric divides the logits of all its digits (temperature scaling, arXiv 1706.04599): it changes how
    sure digits are, not which is likeliest. Found on a grid, hence reproducible to the last bit. Metrics with fewer
    than ``LEAST_LABELS`` labels keep 1.
    """
    device = next(network.parameters()).device
    names = torch.tensor(data.metrics, device=device)
    forbidden = torch.from_numpy(~data.grammar()).to(device)
    surprise = torch.zeros(len(TEMPERATURES), len(data.metrics), dtype=torch.float64)
    order = np.array(sorted(range(len(data.graphs)), key=lambda row: len(data.graphs[row].ids)))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        tokens = torch.from_numpy(data.tokens(rows)).to(device)
        visible = torch.zeros(len(rows), len(names), len(names), dtype=torch.bool, device=device)
        logits = network(collate([data.graphs[row] for row in rows], device), tokens, visible, names)
        logits = logits.float().masked_fill(forbidden, -torch.inf)
        for index, temperature in enumerate(TEMPERATURES):
            likelihood = (logits / temperature).log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
            surprise[index] -= likelihood.masked_fill(tokens < 0, 0.0).double().sum((0, 2)).cpu()
    best = TEMPERATURES[surprise.argmin(0).numpy()]
    enough = (~np.isnan(data.labels)).sum(0) >= LEAST_LABELS
    return tuple(float(value) for value in np.where(enough, best, 1.0))
