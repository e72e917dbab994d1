"""The command ``effcompile``: one sub-command per stage, in the order of the data's way."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer

import effcompile
from effcompile.cli import artifact_commands, bench_commands, look_commands, tune_commands
from schedules.errors import EffcompileError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"effcompile {effcompile.__version__}")
        raise typer.Exit


@app.callback(help="Tune the kernels of a model for low energy within a latency limit.")
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """What may stand before a command."""


tune_commands.register(app)
artifact_commands.register(app)
look_commands.register(app)
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Run one command; every problem ends as one message and an exit status.

    Exit status: 0 done, 1 failed, 2 wrong usage or unusable input, 3 stopped early
    with a usable result, 130 interrupted before there was one.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app(prog_name="effcompile")
    except EffcompileError as error:
        _fail(str(error), error.exit_status)
    except BrokenPipeError:
        # Whoever read the output has seen enough; what Python still holds goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _fail(_unexpected(error), 1)


def _fail(message: str, exit_status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_status)


def _unexpected(error: Exception) -> str:
    """One line for an error that nobody foresaw; its traceback goes to a file."""
    cause = f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    text = f"command: {' '.join(sys.argv)}\n\n{traceback.format_exc()}"
    try:
        descriptor, path = tempfile.mkstemp(prefix="effcompile-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as unwritten:
        sys.stderr.write(text)
        return f"{cause}. No log file could be written: {unwritten.strerror}."
    return f"{cause}. This is a defect of effcompile; report it with the traceback in {path}"
