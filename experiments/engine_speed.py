"""Queries per second of this engine beside regress-lm, the reference implementation, in one interleaved run.

    python -m experiments.engine_speed --regress-lm PATH      # PATH: a checkout of google-deepmind/regress-lm
    python -m experiments.engine_speed                        # this engine alone

The peer needs its own requirements (``pip install absl-py ordered-set sentencepiece``). One query is one NAS-Bench-201
network, five objectives, 32 samples (the exact mode needs none), starting from the text; rows marked so start from the
ONNX model. All models have random weights and, within 10 %, the same number of parameters: the shape of the shipped
checkpoint. The peer reads the printed ONNX graph cropped at 2,048 tokens, and our text; both through byte-pair
encodings of the same vocabulary size. Written numbers: sign, exponent sign, exponent, four digits in both (``raw``);
our default (``quantile``) writes three digits.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.printer
import pandas as pd
import torch

import search_spaces
from experiments.nasbench201_split import METRICS
from experiments.record import RESULTS, commit, write_csv
from experiments.train_nasbench201 import MODEL
from surrogates.rlm import RLM, DecodingConfig, TrainingConfig
from surrogates.text import linearize
from surrogates.text.tokenizer import Tokenizer

COMMAND = "python -m experiments.engine_speed"
PEER = "regress-lm"
SAMPLES = 32
PRINTED_CONTEXT = 2048
VOCABULARY = 512


class System(NamedTuple):
    """One contender: ``run`` answers ``queries`` queries."""

    name: str
    text: str
    parameters: int
    samples: int
    queries: int
    run: Callable[[], Any]


def main() -> None:
    """Time all systems and write ``results/engine_speed.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regress-lm", type=Path, default=None, help="checkout of the peer's repository")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--device", default="cpu", help="where this engine computes, e.g. cuda; the peer stays on the CPU"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space, rng = search_spaces.get("nasbench201"), np.random.default_rng(0)
    texts = [linearize(space.to_onnx(space.sample(rng))) for _ in range(256)]
    # graphs that no earlier round has seen: nothing of them is in a cache
    fresh = iter([[space.to_onnx(space.sample(rng)) for _ in range(256)] for _ in range(2 * options.rounds + 2)])
    systems = own_systems(fresh, texts, options.device)
    if options.regress_lm is not None:
        sys.path.insert(0, str(options.regress_lm))
        printed = [onnx.printer.to_text(space.to_onnx(space.sample(rng), functions=False)) for _ in range(32)]
        size = systems[0].parameters
        systems += [
            peer_system("printed ONNX graph", printed[:4], printed, PRINTED_CONTEXT, size),
            peer_system("ours", texts[:16], texts, 0, size),
        ]
    seconds: dict[int, list[float]] = {i: [] for i in range(len(systems))}
    for round_number in range(options.rounds + 1):  # the first round warms up
        for i, system in enumerate(systems):
            started = time.perf_counter()
            system.run()
            if round_number:
                seconds[i].append(time.perf_counter() - started)
        print(f"round {round_number} of {options.rounds} done", file=sys.stderr)
    rows = []
    for i, system in enumerate(systems):
        rates = sorted(system.queries / s for s in seconds[i])
        rows.append(
            {
                "system": system.name,
                "text": system.text,
                "parameters": system.parameters,
                "objectives": len(METRICS),
                "samples": system.samples,
                "queries_per_second": round(statistics.median(rates), 3),
                "slowest": round(rates[0], 3),
                "fastest": round(rates[-1], 3),
                "revision": revision(options.regress_lm) if system.name == PEER else commit(),
            }
        )
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False))
    words = ["--regress-lm PATH"] if options.regress_lm else []
    words += [
        f"--{name} {value}"
        for name in ("rounds", "threads", "device")
        if (value := vars(options)[name]) != parser.get_default(name)
    ]
    write_csv(RESULTS / "engine_speed.csv", frame, command=" ".join([COMMAND, *words]), seed=0)


def revision(checkout: Path) -> str:
    """The commit of a checkout."""
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=checkout, check=False
    )
    return run.stdout.strip() or "unknown"


def own_systems(fresh: Iterator[list[onnx.ModelProto]], texts: list[str], device: str) -> list[System]:
    """This engine: raw numbers and quantile digits, sampling and exact, from text and from ONNX.

    Args:
        fresh: New models for every call that starts from ONNX, as many as there are texts.
        texts: Texts for all other calls.
        device: Where the network is.
    """
    labels = pd.DataFrame(np.random.default_rng(0).uniform(1, 99, (32, len(METRICS))), columns=list(METRICS))
    systems = []
    for scale, digits in (("raw", 4), ("quantile", 3)):
        rlm = RLM(MODEL, TrainingConfig(epochs=1), value_scale=scale, digits=digits, vocabulary=VOCABULARY)
        rlm.fit(texts[:32], labels).to(device)
        size = sum(parameter.numel() for parameter in rlm.network.parameters())
        for method in ("sample", "exact"):
            decoding = DecodingConfig(method=method, samples=SAMPLES)
            shown = SAMPLES if method == "sample" else 0
            name = f"nasrlm {method}, {scale}"
            systems.append(System(name, "ours", size, shown, len(texts), partial(_answer, rlm, decoding, texts)))
            if scale == "quantile":
                run = partial(_answer_next, rlm, decoding, fresh)
                systems.append(System(f"{name}, from ONNX", "ours", size, shown, len(texts), run))
    return systems


def _answer(rlm: RLM, decoding: DecodingConfig, graphs: list[Any]) -> Any:
    """The engine as a user calls it."""
    rlm.decoding = decoding
    return rlm.predict(graphs)


def _answer_next(rlm: RLM, decoding: DecodingConfig, fresh: Iterator[list[onnx.ModelProto]]) -> Any:
    return _answer(rlm, decoding, next(fresh))


def peer_system(label: str, queries: list[str], corpus: list[str], context: int, parameters: int) -> System:
    """regress-lm of about ``parameters`` parameters on ``queries``; ``context`` 0 takes the longest text's length."""
    from regress_lm import core, tokenizers, vocabs
    from regress_lm.pytorch import encoders
    from regress_lm.pytorch import model as peer

    tokenizer = Tokenizer.train(corpus, vocabulary=VOCABULARY)

    class Vocabulary(vocabs.EncoderVocab):  # type: ignore[misc]
        """Our byte-pair encoding behind the peer's interface."""

        pad_id = 0

        def to_token_ids(self, obj: str, /) -> list[int]:
            ids: list[int] = tokenizer.encode([obj])[0].ids.tolist()
            return ids

        def __len__(self) -> int:
            return len(tokenizer)

    longest = context or max(len(encoding.ids) for encoding in tokenizer.encode(corpus))
    best = None
    for width, layers in itertools.product(range(32, 176, 16), range(2, 5)):  # the nearest size; heads want 16ths
        config = peer.PyTorchModelConfig(
            encoder_vocab=Vocabulary(),
            decoder_vocab=vocabs.DecoderVocab(tokenizers.IEEEFloatTokenizer()),
            max_input_len=longest,
            max_num_objs=len(METRICS),
            architecture_kwargs={
                "d_model": width,
                "num_encoder_layers": layers,
                "num_decoder_layers": MODEL.decoder_layers,
                "decoder_dropout": 0.0,
                "encoder_type": encoders.EncoderType.VANILLA,
                "additional_encoder_kwargs": {"dropout": 0.0},
            },
        )
        model = config.make_model().eval()
        size = sum(parameter.numel() for parameter in model.parameters())
        if best is None or abs(size - parameters) < abs(best[1] - parameters):
            best = (model, size)
    assert best is not None
    model, size = best
    inputs = [core.ExampleInput(x=text) for text in queries]
    return System(
        PEER,
        label,
        size,
        SAMPLES,
        len(queries),
        lambda: model.decode(model.cfg.make_converter().convert_inputs(inputs), SAMPLES),
    )


if __name__ == "__main__":
    main()
