"""Configurations of the regression language model: shape, reading, training, decoding."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import UsageError

#: Names of the compact encoders, which read the wiring: with a vector a token, and with a vector a line.
WIRED, LINES = "wired", "lines"
#: What a head of the compact encoder may look at, besides its own line.
MASKS = ("producers", "consumers", "ancestors", "descendants", "all")
#: Number formats of the training arithmetic.
PRECISIONS = ("auto", "float32", "bfloat16")
#: Ways to read numbers out, and what may run the encoder while doing so.
METHODS = ("exact", "sample")
AGGREGATES = ("auto", "mean", "median")
ENCODER_RUNTIMES = ("torch", "onnxruntime", "onnxruntime-int8")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the encoder-decoder.

    Attributes:
        width: Hidden size of the decoder and of a compact encoder.
        encoder_layers: Depth of a compact encoder.
        decoder_layers: Decoder depth.
        heads: What each head of a compact encoder may look at, out of ``MASKS``; the decoder has as many heads;
            ``width`` must be a multiple of twice their number.
        flow: Besides attending, a compact encoder adds up what a line reads and what reads it: attention takes means,
            and cannot count.
        ways: An encoder of lines is told of the ways through functions (``surrogates.text.ways``), for the same reason.
        mean_heads: Heads of the decoder that take the mean of all that the encoder gives, whatever it says: with few
            labels it is not worth learning where to look.
        feed_forward: Size of the hidden layer in each block.
        context: Longest text in tokens; longer ones raise.
        dropout: Dropout rate in training.
        encoder: ``wired``, ``lines``, or the hub name or local path of a T5Gemma or T5Gemma2 checkpoint; see
            docs/encoders.md.
        freeze_encoder: Leave a pretrained encoder as it is.
        encoder_rate: Learning rate of a pretrained encoder that is not frozen, as a share of the learning rate.
    """

    width: int = 128
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: tuple[str, ...] = ("producers",) * 2 + ("consumers",) * 2 + ("ancestors", "descendants") + ("all",) * 2
    flow: bool = False
    ways: bool = False
    mean_heads: int = 0
    feed_forward: int = 384
    context: int = 2048
    dropout: float = 0.0
    encoder: str = WIRED
    freeze_encoder: bool = False
    encoder_rate: float = 0.05

    def __post_init__(self) -> None:
        if self.freeze_encoder and self.encoder in (WIRED, LINES):
            raise UsageError("freeze_encoder needs a pretrained encoder; name one in ModelConfig.encoder")
        if self.ways and self.encoder != LINES:
            raise UsageError(f"ways are for the encoder {LINES!r}, not {self.encoder!r}; set ways=False")
        for head in self.heads:
            if head not in MASKS:
                raise UsageError(f"unknown head mask {head!r}; choose from: {', '.join(MASKS)}")
        if not 0 <= self.mean_heads <= len(self.heads):
            raise UsageError(f"mean_heads is {self.mean_heads}; there are {len(self.heads)} heads")
        if self.width % (2 * len(self.heads)):
            raise UsageError(f"width {self.width} must be a multiple of twice the {len(self.heads)} heads")


@dataclass(frozen=True)
class ReadingConfig:
    """What of a network is read.

    Attributes:
        dead: ``keep`` reads all of it, as a device runs it; ``drop`` leaves out what its result does not depend on
            (``surrogates.text.live``), which does not touch the accuracy. Graphs given as texts are taken as they are.
        functions: ``repeated`` writes the functions that a network calls more than once, the others where they are
            called, which is shortest; ``all`` writes every one, so that a block reads the same in every network.
    """

    dead: str = "keep"
    functions: str = "repeated"

    def __post_init__(self) -> None:
        if self.dead not in ("keep", "drop"):
            raise UsageError(f"unknown treatment {self.dead!r} of dead operations; choose from: keep, drop")
        if self.functions not in ("repeated", "all"):
            raise UsageError(f"unknown choice {self.functions!r} of functions; choose from: repeated, all")

    @property
    def live(self) -> bool:
        """Whether only the live part is read."""
        return self.dead == "drop"

    @property
    def inlining(self) -> bool:
        """Whether a function that is called once is read where it is called."""
        return self.functions == "repeated"


@dataclass(frozen=True)
class TrainingConfig:
    """How to fit.

    Attributes:
        epochs: Passes over the labelled graphs.
        batch_size: Graphs per step.
        learning_rate: Peak of the schedule (AdamW, linear warm-up, cosine to zero).
        warmup: Share of the steps spent warming up.
        weight_decay: AdamW's decoupled decay of matrices.
        clip: Gradient norm limit.
        smoothing: Standard deviation of the noise added to labels on their scale before they become digits: the target
            of a digit is smeared over neighbouring values.
        joint: Share of the examples whose metrics see the metrics written before them (in random order).
        ema: Decay of the averaged weights that are kept in the end; 0 turns averaging off.
        threads: Torch threads; 0 leaves torch's setting.
        checkpoint_minutes: Time between checkpoints of an interrupted-and-resumed fit.
        seed: Seed of initial weights, order and noise.
        precision: ``bfloat16`` computes matrix products and attention in that format, weights and loss stay float32;
            ``auto`` does so where the CPU (AVX512-BF16, AMX) or the GPU has instructions for it.
        evaluate_every: Epochs between two looks at the validation graphs.
        patience: Epochs without a better validation score after which training stops; 0 never stops early.
        digit_weights: Weight of the loss of a number's first, second, … token; the last holds for all further ones.
        orders: Orders in which each graph is written, drawn anew in every epoch: its own, and random ones of the same
            network. Needs models, not texts.
        ranking: Weight of a pairwise loss on the first digit beside the loss of the digits; see
            ``surrogates.rlm.losses``. Needs the quantile scale.
        ranking_by: What of the first digit it orders: the expected ``quantile``, or the ``slope`` of its logits.
        metrics_at_once: Metrics of an example that a step writes, drawn anew from those that are known of it; 0 writes
            all. With forty of them the decoder costs several times what the encoder does. Not with a ranking loss.
        anchor: Labels that the weights training begins with are worth: after ``n`` graphs they are taken back
            ``anchor / (anchor + n)`` of the way (WiSE-FT, Wortsman et al., CVPR 2022). For weights that know something.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    smoothing: float = 0.01
    joint: float = 0.3
    ema: float = 0.999
    threads: int = 0
    checkpoint_minutes: float = 2.0
    seed: int = 0
    precision: str = "auto"
    evaluate_every: int = 1
    patience: int = 0
    digit_weights: tuple[float, ...] = (1.0,)
    orders: int = 1
    ranking: float = 0.0
    ranking_by: str = "quantile"
    metrics_at_once: int = 0
    anchor: float = 0.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {self.precision!r}; choose from: {', '.join(PRECISIONS)}")
        if self.ranking_by not in ("quantile", "slope"):
            raise UsageError(f"unknown ranking_by {self.ranking_by!r}; choose from: quantile, slope")
        counted, optional = ("epochs", "batch_size", "evaluate_every", "orders"), ("patience", "ranking", "anchor")
        for name, least in {**dict.fromkeys(counted, 1), **dict.fromkeys((*optional, "metrics_at_once"), 0)}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.ranking and self.metrics_at_once:
            raise UsageError(
                f"metrics_at_once is {self.metrics_at_once}, but a ranking loss compares all metrics; set one to 0"
            )
        object.__setattr__(self, "digit_weights", tuple(map(float, self.digit_weights)))  # JSON makes it a list
        if not self.digit_weights or min(self.digit_weights) < 0 or max(self.digit_weights) == 0:
            raise UsageError(f"digit_weights {self.digit_weights} must be positive numbers (or zeros), not all zero")


@dataclass(frozen=True)
class DecodingConfig:
    """How to read numbers out.

    Attributes:
        method: ``exact`` expands the leading digits by probability mass and is deterministic; ``sample`` draws.
        beams: Exact mode: prefixes kept before each digit after the first.
        samples: Sampling mode: draws per graph.
        aggregate: What of the distribution is predicted: its ``mean``, its ``median`` as published, or by scale
            (``auto``): the mean of quantiles, the median of raw values, whose mean a small chance of a wrong exponent
            takes anywhere, and of quantiles on a scale that was moved (``Scale.moved``).
        readings: Orders of lines in which each graph is read, its own and random ones of the same network; the
            distributions are averaged. More than 1 needs models, not texts.
        batch_size: Graphs per forward pass.
        levels: Probabilities of the returned quantiles.
        seed: Seed of the draws.
        precision: ``float32``, ``bfloat16`` (matrix products and attention; probabilities stay float32) or ``auto``,
            as for training.
        compile: Compile the encoder with torch.compile; pays for many graphs, needs a C++ compiler.
        encoder_runtime: What runs the encoder: ``torch``, or for the wired encoder ``onnxruntime`` and
            ``onnxruntime-int8`` (8-bit weights) on the CPU.
    """

    method: str = "exact"
    beams: tuple[int, ...] = (3, 2)
    samples: int = 64
    aggregate: str = "auto"
    readings: int = 1
    batch_size: int = 256
    levels: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    seed: int = 0
    precision: str = "float32"
    compile: bool = False
    encoder_runtime: str = "torch"

    def __post_init__(self) -> None:
        choices = {
            "method": METHODS,
            "aggregate": AGGREGATES,
            "precision": PRECISIONS,
            "encoder_runtime": ENCODER_RUNTIMES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; choose from: {', '.join(known)}")
        if self.readings < 1:
            raise UsageError(f"readings is {self.readings}; it must be at least 1")
        if self.compile and self.encoder_runtime != "torch":
            raise UsageError(f"compile is for torch; {self.encoder_runtime} compiles by itself")
