"""Winners found on one machine, to be measured on another: a small JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from effcompile.bench.winner_pairs import WinnerPair
from effcompile.errors import UsageError


def write_pairs(pairs: Sequence[WinnerPair], path: Path) -> None:
    """Write them."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(pairs), indent=1))


def read_pairs(path: Path) -> list[WinnerPair]:
    """Read them.

    Raises:
        UsageError: The file holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[WinnerPair])
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(
            f"cannot read winners from {path}: {error}. Name a file that "
            "effcompile bench winners --find-only wrote."
        ) from error
