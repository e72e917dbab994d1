"""What commands print: one JSON document, or text for people, on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """One JSON document with the field names of the records."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def print_text(text: str) -> None:
    """One line or paragraph."""
    sys.stdout.write(text + "\n")


def print_note(text: str) -> None:
    """One line about what happened, on stderr."""
    sys.stderr.write(text + "\n")


def print_rows(rows: Sequence[Any], *, to_stderr: bool = False) -> None:
    """Records of one type as a table, one column per field that holds anything."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    tables = [msgspec.to_builtins(row) for row in rows]
    names = [name for name in (tables[0] if tables else {}) if any(row[name] for row in tables)]
    table = Table(*names)
    for row in tables:
        # As text, or brackets such as those of ``effcompile[cuda]`` would be read as markup.
        table.add_row(*(Text(_cell(row[name])) for name in names))
    stream = sys.stderr if to_stderr else sys.stdout
    Console(file=stream, width=None if stream.isatty() else 200).print(table)
    stream.flush()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
