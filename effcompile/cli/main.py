"""The command ``effcompile``: one sub-command per stage, in the order of the data's way."""

from __future__ import annotations

import logging
import sys

import typer

from effcompile.cli import artifact_commands, bench_commands, look_commands, tune_commands
from schedules.errors import EffcompileError

app = typer.Typer(
    help="Tune the kernels of a model for low energy within a latency limit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tune_commands.register(app)
artifact_commands.register(app)
look_commands.register(app)
app.add_typer(bench_commands.app, name="bench")


def main() -> None:
    """Run one command; every stated problem ends as one message and an exit status.

    Exit status: 0 done, 1 failed, 2 wrong usage or unusable input, 3 stopped early
    with a usable result.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except EffcompileError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
