"""``nasrlm text``: what the language model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasrlm.cli.models import DEFAULT_CHECKPOINT
from nasrlm.cli.output import AsJson, print_json


def text(
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint (folder or shipped name) whose tokenizer counts the tokens.")
    ] = DEFAULT_CHECKPOINT,
    live: Annotated[
        bool, typer.Option("--live", help="Leave out what the result does not depend on, as for accuracy.")
    ] = False,
    all_functions: Annotated[
        bool, typer.Option("--all-functions", help="Write every function of the model, also those called once.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the model reads of an ONNX file.

    The linearised text goes to stdout, its token count to stderr.

    Example: nasrlm text net.onnx
    """
    from search_spaces.files import load_onnx
    from surrogates.registry import checkpoint_path
    from surrogates.text import linearize
    from surrogates.text.tokenizer import Tokenizer

    content = linearize(load_onnx(file), live=live, inlining=not all_functions)
    tokenizer = Tokenizer.load(checkpoint_path(checkpoint) / "tokenizer.json")
    count = len(tokenizer.encode([content])[0].ids)
    if as_json:
        print_json({"file": str(file), "text": content, "tokens": count, "checkpoint": checkpoint})
        return
    typer.echo(content)
    typer.echo(f"{count} tokens ({checkpoint})", err=True)
