"""Recorded runs of real devices, and how to find, make and replay them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from effcompile.errors import UsageError

SUFFIX = ".effrec"
REPLAY = "replay:"


def recording_paths(name: str) -> list[Path]:
    """Files behind the name of a replay device.

    Args:
        name: A file; or the name of shipped recordings, ``h200-block`` for one, ``h200`` for
            every one that starts with ``h200-``.

    Raises:
        UsageError: No such file or name.
    """
    if Path(name).is_file():
        return [Path(name)]
    folder = Path(__file__).parent
    exact = folder / f"{name}{SUFFIX}"
    shipped = sorted(folder.glob(f"*{SUFFIX}"))
    joined = [one for one in shipped if one.name.startswith(f"{name}-")]
    found = [exact] if exact in shipped else joined
    if not found:
        known = ", ".join(path.stem for path in shipped) or "none"
        raise UsageError(
            f"no recording {name!r}: expected a file, or one of the shipped ones ({known}), or "
            "the part of their names before a dash."
        )
    return found


def digest_of(paths: list[Path]) -> str:
    """Content hash over several files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]
