"""One tuner per run folder.

The lock belongs to the open file, so the operating system drops it when the process
ends, however it ends: a lock of a killed process is never found.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.errors import DatabaseLocked, DatabaseUnwritable

LOCK_NAME = "tuner.lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the exclusive right to tune in a run folder.

    Raises:
        DatabaseLocked: Another process, or another part of this one, holds it.
        DatabaseUnwritable: The lock file cannot be created.
    """
    path = folder / LOCK_NAME
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DatabaseUnwritable(
            f"cannot lock run folder {folder}: {error.strerror}. "
            "Tuning needs the right to write there; choose another folder with --out."
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise DatabaseLocked(
                f"cannot tune in {folder}: process {holder} is tuning there. "
                "Wait for it, stop it, or choose another folder with --out."
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(file)
