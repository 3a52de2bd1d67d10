"""How far a graph lies from the training graphs: an out-of-distribution score, and the operators never seen.

The score is the Mahalanobis distance of a graph's pooled encoder output from those of the training graphs (Lee et al.,
arXiv 1807.03888, on the encoder as Ren et al., arXiv 2209.15558, have it), read against the distances of graphs the
model knows. One Gaussian describes them all: where the training graphs are of several spaces it is wide, and a graph
between two of them counts as near. Operators are compared by their spelling, which no Gaussian can hide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from search_spaces.errors import CheckpointError
from surrogates.base import Familiarity
from surrogates.rlm.inputs import EncodedText, collate
from surrogates.rlm.model import RLMNetwork

DISTANCE_FILE = "distance.safetensors"
DISTANCE_VERSION = 1
#: Training graphs that the distribution is learned from; of more, a random choice.
MOST_GRAPHS = 4096
#: Validation graphs from which on their distances are the scale; below, those of left-out training graphs are.
LEAST_VALIDATION = 32
#: Quantiles of the known graphs' distances that are kept: 0 %, 0.5 %, … 100 %.
LEVELS = np.linspace(0.0, 1.0, 201)
_FOLDS = 5
_BATCH = 256
_TAIL = re.compile(r" (?:<[\d. ]*)?(?:@\S+)?$")
_OPERANDS = re.compile(r"\(.*")
#: Words of a spelling that are sizes: channels, shapes of weights, which outputs are used.
_SIZE = re.compile(r"c\d+|w?\d+(?:x\d+)*|>\d+|scalar|t\d+:\S+")


@dataclass(frozen=True)
class TrainingDistribution:
    """Pooled encoder outputs of the training graphs, as a Gaussian.

    Attributes:
        center: Mean, ``(width,)``.
        whitening: ``(width, width)``: a difference from ``center`` times it has the identity as covariance.
        quantiles: Distances of graphs the model knows, at ``LEVELS``.
        operators: Spellings of the operators in the training texts.
    """

    center: np.ndarray
    whitening: np.ndarray
    quantiles: np.ndarray
    operators: frozenset[str]

    @classmethod
    def learn(cls, vectors: np.ndarray, operators: Iterable[str], *, validation: np.ndarray | None = None) -> Self:
        """The distribution of ``vectors`` ``(n, width)``.

        The scale of distances comes from ``validation`` ``(v, width)`` where that is enough; else from the training
        graphs themselves, each measured by a distribution that leaves it and others out, since a graph lies nearer to
        a distribution that it was part of.
        """
        center, whitening = _gaussian(vectors)
        if validation is not None and len(validation) >= LEAST_VALIDATION:
            known = _mahalanobis(validation, center, whitening)
        else:
            folds = np.random.default_rng(0).permutation(len(vectors)) % min(_FOLDS, len(vectors))
            known = np.empty(len(vectors))
            for fold in np.unique(folds):
                inside = vectors[folds != fold] if len(vectors) > 1 else vectors
                known[folds == fold] = _mahalanobis(vectors[folds == fold], *_gaussian(inside))
        return cls(center, whitening, np.quantile(known, LEVELS), frozenset(operators))

    @classmethod
    def of(
        cls,
        network: RLMNetwork,
        texts: Sequence[str],
        graphs: Sequence[EncodedText],
        validation: Sequence[EncodedText] | None = None,
        *,
        before: Self | None = None,
    ) -> Self:
        """The distribution of training ``texts``, encoded as ``graphs``, as ``network`` sees them.

        Operators of an earlier training, ``before``, still count as seen; its graphs are no longer at hand.
        """
        rows = np.random.default_rng(0).permutation(len(graphs))[:MOST_GRAPHS]
        held = pooled(network, validation[:MOST_GRAPHS]) if validation is not None else None
        seen = operators(texts) | (before.operators if before is not None else frozenset())
        return cls.learn(pooled(network, [graphs[row] for row in rows]), seen, validation=held)

    def distance(self, vectors: np.ndarray) -> np.ndarray:
        """Mahalanobis distances ``(n,)`` over that of the farthest graph the model knows; above 1 is farther."""
        return _mahalanobis(vectors, self.center, self.whitening) / max(float(self.quantiles[-1]), 1e-12)

    def familiarity(self, vectors: np.ndarray, texts: Sequence[str]) -> tuple[Familiarity, ...]:
        """What is known of each graph, given its pooled vector and its text."""
        ratios = self.distance(vectors)
        scale = self.quantiles / max(float(self.quantiles[-1]), 1e-12)
        shares = np.interp(ratios, scale, LEVELS)
        return tuple(
            Familiarity(float(ratio), float(share), tuple(sorted(operators([text]) - self.operators)))
            for ratio, share, text in zip(ratios, shares, texts, strict=True)
        )

    def save(self, folder: Path) -> None:
        """Write it as one safetensors file into ``folder``."""
        arrays = {
            name: np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            for name in ("center", "whitening", "quantiles")
        }
        words = {"format_version": str(DISTANCE_VERSION), "operators": json.dumps(sorted(self.operators))}
        save_file(arrays, folder / DISTANCE_FILE, metadata=words)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What ``save`` wrote into ``folder``.

        Raises:
            CheckpointError: The file is missing, damaged or of another format version.
        """
        path = folder / DISTANCE_FILE
        try:
            with safe_open(path, "numpy") as file:
                words = file.metadata() or {}
                arrays = {name: file.get_tensor(name).astype(float) for name in file.keys()}  # noqa: SIM118
            version = words.get("format_version")
            if version != str(DISTANCE_VERSION):
                raise CheckpointError(
                    f"{path} has format {version}, this version of nasrlm reads {DISTANCE_VERSION}; train it "
                    "again or use the nasrlm it was made with"
                )
            return cls(arrays["center"], arrays["whitening"], arrays["quantiles"], frozenset(_words(words)))
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} is no description of training graphs: {error}") from error


@torch.inference_mode()
def pooled(network: RLMNetwork, graphs: Sequence[EncodedText]) -> np.ndarray:
    """The mean of each graph's encoder outputs over its tokens, ``(n, width)``; leaves the network's mode as it is."""
    device, training = next(network.parameters()).device, network.training
    vectors = np.empty((len(graphs), network.config.width))
    order = sorted(range(len(graphs)), key=lambda row: len(graphs[row].ids))
    network.eval()
    try:
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            states = network.encoder(collate([graphs[row] for row in rows], device))
            present = states.present[..., None]
            total = states.vectors.float().masked_fill(~present, 0.0).sum(1)
            vectors[rows] = (total / present.sum(1)).double().cpu().numpy()
    finally:
        network.train(training)
    return vectors


def operators(texts: Iterable[str]) -> frozenset[str]:
    """Operators as the texts spell them, attributes included, sizes and operands left out: ``Conv k3 s2 dw``."""
    found = set()
    for line in {line for text in texts for line in text.split("\n")}:
        if line.split(" ", 1)[0] in ("def", "in", "out", "") or re.match(r"F\d+(?=[*:\s]|$)", line):
            continue
        for spelling in _TAIL.sub("", line).split("|"):
            words = _OPERANDS.sub("", spelling).split(" ")
            found.add(" ".join(word for word in words if not _SIZE.fullmatch(word)))
    return frozenset(found)


def _words(metadata: dict[str, str]) -> list[str]:
    words = json.loads(metadata["operators"])
    if not isinstance(words, list):
        raise ValueError(f"its operators are a {type(words).__name__}, not a list")
    return [str(word) for word in words]


def _gaussian(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and whitening matrix of ``(n, width)``; the covariance is shrunk towards a multiple of the identity.

    The share is that of the oracle approximating shrinkage (Chen et al., arXiv 0907.4698, eq. 23).
    """
    n, width = vectors.shape
    center = vectors.mean(0)
    covariance = (vectors - center).T @ (vectors - center) / n
    trace, square = float(np.trace(covariance)), float((covariance**2).sum())
    spread = (n + 1 - 2 / width) * (square - trace**2 / width)
    share = min(1.0, ((1 - 2 / width) * square + trace**2) / spread) if spread > 0 else 1.0
    size = max(trace / width, 1e-12)  # equal vectors have no spread at all
    shrunk = (1 - share) * covariance + share * size * np.eye(width)
    values, directions = np.linalg.eigh(shrunk)
    return center, directions / np.sqrt(np.maximum(values, 1e-6 * size))


def _mahalanobis(vectors: np.ndarray, center: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm((vectors - center) @ whitening, axis=1))
