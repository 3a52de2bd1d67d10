"""How long the texts are: tokens per network of every space, one byte-pair encoding learned over all of them.

    python -m experiments.text_length            # -> results/text_length.csv

The encoding is learned on one sample of networks and measured on another. ``published`` is the median of
arXiv 2509.26476 (its printed ONNX text, cropped at 2,048 tokens).
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

import search_spaces
from experiments.record import RESULTS, command_of, write_csv
from surrogates.text import linearize
from surrogates.text.tokenizer import Tokenizer

PUBLISHED = {
    "nasbench101": 4100,
    "nasbench201": 3400,
    "fbnet": 3500,
    "ofa_mobilenetv3": 6300,
    "two_path": 1800,
    "hiaml": 2400,
    "inception": 23000,
    **dict.fromkeys(("darts", "enas", "nasnet", "pnas", "amoeba"), 14000),
}


def sample_texts(name: str, count: int, rng: np.random.Generator) -> list[str]:
    """Texts of ``count`` random networks of a space."""
    space = search_spaces.get(name)
    return [linearize(space.to_onnx(space.sample(rng))) for _ in range(count)]


def main() -> None:
    """Learn the encoding, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=150, help="networks a space, for learning and for measuring")
    parser.add_argument("--vocabulary", type=int, default=2048)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    names = search_spaces.names()
    learned = {name: sample_texts(name, options.networks, rng) for name in names}
    tokenizer = Tokenizer.train((text for texts in learned.values() for text in texts), vocabulary=options.vocabulary)
    rows = []
    for name in names:
        texts = sample_texts(name, options.networks, rng)
        lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode(texts)])
        rows.append(
            {
                "space": name,
                "networks": len(texts),
                "median_tokens": float(np.median(lengths)),
                "longest": int(lengths.max()),
                "median_lines": float(np.median([text.count("\n") + 1 for text in texts])),
                "median_characters": float(np.median([len(text) for text in texts])),
                "published": PUBLISHED.get(name),
            }
        )
    frame = pd.DataFrame(rows)
    frame["published"] = frame["published"].astype("Int64")
    print(f"vocabulary {len(tokenizer)}\n{frame.to_string(index=False)}")
    write_csv(RESULTS / "text_length.csv", frame, command=command_of("experiments.text_length"), seed=0)


if __name__ == "__main__":
    main()
