"""How well anything can rank by labels that carry noise: the agreement of functionally identical networks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nasrlm.labels.names import metric as described
from nasrlm.labels.tables import LabelTable
from nasrlm.metrics import kendall_tau

#: Twins below which nothing is said.
LEAST = 100


def noise_ceiling(table: LabelTable, metric: str, *, seed: int = 0, draws: int = 10, rows: int = 20_000) -> float:
    """Kendall tau of labels against the labels of functionally identical networks.

    Every network that has a labelled twin (equal ``space.canonical``) is paired with one of them at random. Both sides
    are noisy, so a predictor that knows the expected label can lie a little above.

    Args:
        table: The labels.
        metric: A quantity that functionally identical networks share: for latency and energy, which a device also
            spends on branches that do not reach the output, the result is NaN.
        seed: Seed of the pairing.
        draws: Pairings that are averaged.
        rows: Look at the first so many rows of a random order, for tables of hundreds of thousands.

    Returns:
        The agreement; NaN where fewer than 100 networks have a twin.
    """
    if described(metric).of_device:
        return float("nan")
    rng = np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(table.frame[metric].notna()))[:rows]
    keys = pd.Series([table.canonical(int(row)) for row in known])
    values = table.frame[metric].to_numpy(dtype=float)[known]
    twins = [np.asarray(members) for members in keys.groupby(keys).indices.values() if len(members) > 1]
    if sum(map(len, twins)) < LEAST:
        return float("nan")
    taus = []
    for _ in range(draws):
        shuffled = [rng.permutation(members) for members in twins]
        ones = np.concatenate(shuffled)
        others = np.concatenate([np.roll(members, 1) for members in shuffled])  # nobody is its own twin
        taus.append(kendall_tau(values[ones], values[others]))
    return float(np.mean(taus))
