"""The encoder that reads a text line by line, and its reader: one vector a line instead of one a token.

A line begins as the sum of its words and, in the main graph, of what it writes and costs (``surrogates.text.costs``)
and how deep it lies, in a function of the ways that pass it (``surrogates.text.ways``), all worked out from the text. A
call begins as the words of what it calls, so that a block reads much alike whether it is written once as a function or
where it stands. Layers as those of the wired encoder then carry vectors along the wires; where a line stands says
nothing that its wires do not. A network of 250 tokens has some 30 lines, and with few labels there is less to learn by
heart.

Where all inputs of a function pass the same operation first, as the projections of NAS-Bench-101's cells, that
operation belongs to the wire: it says that there is one, while the same words further inside are an operation that
somebody chose. Such an **entry** has words of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.errors import CheckpointError, UsageError
from surrogates.rlm import short_attention
from surrogates.rlm.config import ModelConfig
from surrogates.rlm.encoders import Encoder, Reader, States, check_length
from surrogates.rlm.inputs import EncodedText, padded
from surrogates.rlm.wired import EncoderLayer, Wires, head_masks
from surrogates.text.costs import COSTS, line_costs
from surrogates.text.parse import CALL, LINE, OPERATOR, PIPE, SPACE, sections
from surrogates.text.ways import WAYS, ways
from surrogates.text.wiring import Wiring, bodies, depths, through, wiring

WORDS_FILE = "words.json"
#: What the costs of a line say anyway: the width of a convolution, the shape of a weight.
_WIDTH, _SHAPE = re.compile(r"c\d+|w[\dx]+"), re.compile(r"(?<=%)[^,]*")
#: New layers begin as a tenth of what their matrices would be drawn as: lines first speak for themselves.
_QUIET = 0.1
#: Deviation of a new word's vector.
_SPREAD = 0.1
#: Texts that a reader remembers having read.
KEPT = 2048
#: A cost that varies less than this over the training lines says nothing.
_CONSTANT = 1e-6
#: The word of a call.
_CALLED = "F"
#: Before the words of an entry.
_ENTRY = "in "
#: Cosines that say how deep a line lies, from one half-wave over the whole depth to so many, and the deviation of the
#: new weights of depth and ways: they are there to be learned where they matter, and no noise where they do not.
DEPTHS, _FAINT = 12, 0.03


def words(line: str) -> list[str]:
    """Words of a line: operators, attributes and operands, ``F`` for a call, ``*5`` for its repetitions.

    What the wires and costs of the line say is left out: references, resolution, widths, the number of a function.
    """
    parts = LINE.fullmatch(line)
    assert parts is not None
    if (call := CALL.fullmatch(parts["body"])) is not None:
        return [_CALLED, f"*{call['times']}"] if call["times"] else [_CALLED]
    found: list[str] = []
    for text in PIPE.split(parts["body"]):
        operator = OPERATOR.fullmatch(text)
        assert operator is not None
        found += [word for word in SPACE.split(operator["words"]) if not _WIDTH.fullmatch(word)]
        if operator["operands"] is not None:
            found.append(f"({_SHAPE.sub('', operator['operands'])})")
        found += [text.strip() for text in (operator["bias"], operator["outputs"]) if text]
    return found


class EncodedLines(NamedTuple):
    """One text, ready for batching.

    Attributes:
        ids: Known words of all lines, one after the other ``(t,)``.
        lines: Line of each word ``(t,)``.
        producers: Bool ``(lines, lines)``, a line's own producers and itself.
        ancestors: Bool ``(lines, lines)``, a line's ancestors and itself.
        operands: Bool ``(lines, lines)``, what a line reads, also through lines that add or concatenate.
        bodies: Float32 ``(lines, lines)``, how often the call in a line runs each line.
        costs: Float32 ``(lines, 4)``, around 0; 0 in functions, where a line costs this or that by who calls it.
        depth: Float32 ``(lines,)``, how deep a line of the main graph lies: 1 as deep as any of the training texts.
        ways: Float32 ``(lines, 9)``, what the ways through a function say about its lines; 0 in the main graph.
        main: Bool ``(lines,)``, whether it is part of the main graph.
    """

    ids: np.ndarray
    lines: np.ndarray
    producers: np.ndarray
    ancestors: np.ndarray
    operands: np.ndarray
    bodies: np.ndarray
    costs: np.ndarray
    depth: np.ndarray
    ways: np.ndarray
    main: np.ndarray

    @classmethod
    def collate(cls, rows: Sequence[EncodedLines], device: torch.device | str) -> LineBatch:
        """See ``EncodedText``."""
        count, length = max(len(row.main) for row in rows), max(len(row.ids) for row in rows)
        parts = (
            padded([row.ids for row in rows], (length,)),
            padded([row.lines for row in rows], (length,), count),  # padding is a line of its own
            padded([np.ones_like(row.main) for row in rows], (count,)),
            padded([row.main for row in rows], (count,)),
            padded([row.producers for row in rows], (count, count)),
            padded([row.ancestors for row in rows], (count, count)),
            padded([row.operands for row in rows], (count, count)),
            padded([row.bodies for row in rows], (count, count)),
            padded([row.costs for row in rows], (count, len(COSTS))),
            padded([row.depth for row in rows], (count,)),
            padded([row.ways for row in rows], (count, len(WAYS))),
        )
        return LineBatch(*(part.to(device) for part in parts))


@dataclass(frozen=True)
class LineBatch:
    """Padded graphs, ``t`` words in ``n`` lines.

    Attributes:
        ids: Long ``(b, t)``.
        lines: Long ``(b, t)``; ``n`` at padding.
        present: Bool ``(b, n)``, false at padding.
        main: Bool ``(b, n)``, false at padding, at headers, and in functions.
        producers: Bool ``(b, n, n)``; see ``EncodedLines`` for this and the following.
        ancestors: Bool ``(b, n, n)``.
        operands: Bool ``(b, n, n)``.
        bodies: ``(b, n, n)``.
        costs: ``(b, n, 4)``.
        depth: ``(b, n)``.
        ways: ``(b, n, 9)``.
    """

    ids: Tensor
    lines: Tensor
    present: Tensor
    main: Tensor
    producers: Tensor
    ancestors: Tensor
    operands: Tensor
    bodies: Tensor
    costs: Tensor
    depth: Tensor
    ways: Tensor


class LineReader(Reader):
    """The words of the training texts, and the scale of their costs and depths.

    Args:
        vocabulary: Known words; others are passed over.
        centre: Mean of each cost over the training lines.
        scale: What a cost is multiplied by once its mean is taken off; 0 leaves it out.
        deepest: Depth of the deepest line of a main graph.
        entry: The words of each kind of entry.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        centre: Sequence[float],
        scale: Sequence[float],
        deepest: int,
        entry: Sequence[Sequence[str]],
    ) -> None:
        self._vocabulary = tuple(vocabulary)
        self._places: Mapping[str, int] = {word: place for place, word in enumerate(self._vocabulary)}
        self._centre, self._scale = np.array(centre, dtype=np.float32), np.array(scale, dtype=np.float32)
        self._deepest, self._entry = int(deepest), [list(kind) for kind in entry]
        self._kept: dict[str, EncodedLines] = {}

    @classmethod
    def learn(cls, texts: Sequence[str], config: ModelConfig, *, vocabulary: int) -> Self:
        """See ``Reader``; the most frequent words are known."""
        different = sorted(set(texts))
        wires = [wiring(text) for text in different]
        entry = _entry(different, wires)
        spoken = [_spoken(text, wired, entry)[0] for text, wired in zip(different, wires, strict=True)]
        counts = Counter(word for lines in spoken for line in lines for word in line)
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
        costs = np.concatenate([line_costs(text)[_main(text)] for text in different])
        deviation = costs.std(axis=0)
        scale = np.where(deviation > _CONSTANT, 1 / np.maximum(deviation, _CONSTANT), 0.0)
        deepest = max(int(_depths(wired, _main(text)).max()) for text, wired in zip(different, wires, strict=True))
        return cls(frequent, costs.mean(axis=0).tolist(), scale.tolist(), deepest, entry)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See ``Reader``."""
        path = folder / WORDS_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(*(content[name] for name in ("words", "centre", "scale", "deepest", "entry")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} holds no words of an encoder of lines: {error}") from error

    def save(self, folder: Path, encoder: Encoder, *, store_encoder: bool) -> tuple[str, ...]:
        """See ``Reader``."""
        if not store_encoder:
            raise UsageError("store_encoder=False is for a frozen pretrained encoder; that of lines must be stored")
        content = {
            "words": self._vocabulary,
            "centre": self._centre.tolist(),
            "scale": self._scale.tolist(),
            "deepest": self._deepest,
            "entry": self._entry,
        }
        (folder / WORDS_FILE).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
        return ()

    @property
    def tokenizer(self) -> tuple[str, ...]:
        """The known words."""
        return self._vocabulary

    def encode(self, texts: Sequence[str], *, context: int) -> list[EncodedText]:
        """See ``Reader``; the last ``KEPT`` texts are not read again."""
        found: list[EncodedLines] = [self._kept.get(text) or self._encoded(text) for text in texts]
        for graph in found:
            check_length(len(graph.ids), context)
        self._kept |= zip(texts, found, strict=True)
        for text in [*self._kept][:-KEPT]:
            del self._kept[text]
        return [*found]

    def encoder(self, config: ModelConfig) -> Encoder:
        """See ``Reader``."""
        return LineEncoder(config, len(self._vocabulary))

    def _encoded(self, text: str) -> EncodedLines:
        wires, main = wiring(text), _main(text)
        spoken, entries = _spoken(text, wires, self._entry)
        known = [
            (self._places[word], number) for number, line in enumerate(spoken) for word in line if word in self._places
        ]
        ids, lines = np.array(known, dtype=np.int64).reshape(-1, 2).T
        self_too = np.eye(len(main), dtype=bool)
        return EncodedLines(
            ids,
            lines,
            wires.producers | self_too,
            wires.ancestors | self_too,
            through(wires.operands, entries),
            bodies(text),
            (line_costs(text) - self._centre) * self._scale * main[:, None],
            (_depths(wires, main) / self._deepest).clip(max=1).astype(np.float32),
            ways(text, wires),
            main,
        )


class LineEncoder(Encoder):
    """Words, costs, depth, ways and wiring to one vector a line; the decoder sees the main graph alone."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(max(1, vocabulary), config.width)
        self.costs = nn.Linear(len(COSTS), config.width)
        self.depths = nn.Linear(DEPTHS, config.width, bias=False)
        self.ways = nn.Linear(len(WAYS), config.width, bias=False) if config.ways else None
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.RMSNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=_SPREAD)
        for placing in (self.depths, self.ways):
            if placing is not None:
                nn.init.normal_(placing.weight, std=_FAINT)
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, EncoderLayer)
                for matrix in layer.last_matrices():
                    matrix.mul_(_QUIET)

    def forward(self, batch: LineBatch) -> States:
        """See ``Encoder``."""
        x = self._lines(batch)
        mask = short_attention.prepared(head_masks(batch, self.config), training=self.training)
        positions = x.shape[1], self.config.width // len(self.config.heads)
        nowhere = x.new_ones(positions), x.new_zeros(positions)
        operands = batch.operands.to(x.dtype)
        wires = Wires(operands, operands.transpose(1, 2)) if self.config.flow else None
        for layer in self.layers:
            x = layer(x, mask, nowhere, wires)
        return States(self.norm(x), batch.main)

    def _lines(self, batch: LineBatch) -> Tensor:
        """What every line says by itself, ``(b, n, width)``."""
        rows, count = batch.present.shape
        place = batch.lines + (count + 1) * torch.arange(rows, device=batch.ids.device)[:, None]
        embedded = self.embedding(batch.ids).flatten(0, 1)
        own = embedded.new_zeros(rows * (count + 1), self.config.width).index_add(0, place.flatten(), embedded)
        number = embedded.new_zeros(rows * (count + 1)).index_add(0, place.flatten(), embedded.new_ones(place.numel()))
        own, number = (part.unflatten(0, (rows, count + 1))[:, :count] for part in (own, number[:, None]))
        said, number = own + torch.bmm(batch.bodies, own), number + torch.bmm(batch.bodies, number)
        waves = torch.arange(1, DEPTHS + 1, device=batch.depth.device) * torch.pi
        placed = self.costs(batch.costs) + self.depths(torch.cos(batch.depth[..., None] * waves))
        x = said * number.clamp(min=1).rsqrt() + placed * batch.main[..., None]
        return x if self.ways is None else x + self.ways(batch.ways)


def _main(text: str) -> np.ndarray:
    """Which lines of ``text`` are the main graph; all where that has none, for a decoder must see something."""
    first, count = sections(text).main.first, text.count("\n") + 1
    return np.arange(count) >= (first if first < count else 0)


def _depths(wires: Wiring, main: np.ndarray) -> np.ndarray:
    """How many lines of the main graph lie on the longest way to each of them; 0 in functions."""
    return np.asarray(depths(wires.producers & main) * main)


def _spoken(text: str, wires: Wiring, entry: Sequence[list[str]]) -> tuple[list[list[str]], np.ndarray]:
    """The words of every line, those of entries marked, and which lines are entries, bool ``(lines,)``."""
    spoken = [words(line) for line in text.split("\n")]
    found = wires.entries & np.array([line in entry for line in spoken])
    return [[_ENTRY + word for word in line] if k else line for line, k in zip(spoken, found, strict=True)], found


def _entry(texts: Sequence[str], wires: Sequence[Wiring]) -> list[list[str]]:
    """The words of each kind of line that several inputs of a function pass, no other beside it, and that stands
    elsewhere as well.

    A kind that is written nowhere else means what it says; calls say nothing, they begin as what they call.
    """
    together, beside, later = set[tuple[str, ...]](), set[tuple[str, ...]](), set[tuple[str, ...]]()
    for text, wired in zip(texts, wires, strict=True):
        kinds = [tuple(words(line)) for line in text.split("\n")]
        later |= {kind for kind, read in zip(kinds, wired.entries, strict=True) if not read}
        for body in sections(text).functions:
            span = slice(body.first, body.first + len(body.lines))
            first = [kind for kind, read in zip(kinds[span], wired.entries[span], strict=True) if read]
            if len(set(first)) > 1:
                beside.update(first)
            elif len(first) > 1:
                together.add(first[0])
    return sorted(list(kind) for kind in (together & later) - beside if kind[0] != _CALLED)
