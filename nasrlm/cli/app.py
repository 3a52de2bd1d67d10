"""The typer application: collects the verbs and turns every expected error into one line.

Verb modules import what is heavy inside their functions, so that ``nasrlm --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from nasrlm.cli.bench import bench
from nasrlm.cli.data import app as data_app
from nasrlm.cli.demo import demo
from nasrlm.cli.export import export
from nasrlm.cli.finetune import finetune
from nasrlm.cli.predict import predict
from nasrlm.cli.report import report
from nasrlm.cli.search import search
from nasrlm.cli.spaces import spaces
from nasrlm.cli.specialise import specialise
from nasrlm.cli.text import text
from nasrlm.cli.train import train
from search_spaces.errors import NasrlmError

#: Exit code of every expected error, the usual one of bad usage.
ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    name="nasrlm",
    help="Neural architecture search with a regression language model that reads ONNX graphs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help is plain text: an architecture's [ and | are no markup
)
for verb in (spaces, export, text, predict, train, specialise, finetune, search, report, bench, demo):
    app.command()(verb)
app.add_typer(data_app, name="data")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"nasrlm {installed('nasrlm')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after ``nasrlm``; those of the process by default.

    Returns:
        The exit code: 0, 2 after an error the user can mend (one line on stderr), 130 after Ctrl-C.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except typer.TyperException as error:  # a bad option, argument or verb
        # no_args_is_help ends in an exception too, whose message is the help itself
        if not error.format_message().startswith("Usage:"):
            return _fail(error.format_message())
        typer.echo(error.format_message(), err=True)
        return ERROR
    except NasrlmError as error:
        return _fail(str(error))
    except OSError as error:  # a path of the user's that cannot be read or written
        return _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return ERROR


if __name__ == "__main__":
    sys.exit(main())
