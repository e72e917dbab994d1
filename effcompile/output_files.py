"""Files that commands write: refused early if they cannot be, complete or absent at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from effcompile.errors import OutputUnwritable, UsageError


def check_output(path: Path) -> None:
    """Find out that a file cannot be written before the work whose outcome it takes.

    Raises:
        UsageError: Its folder is missing or may not be written, or it is no regular file itself.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder. Name a file.")
    if path.exists() and not path.is_file():
        # The new file would take the place of the device, as /dev/null.
        raise UsageError(f"cannot write {path}: it is a device or a pipe. Name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist. Make it.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"cannot write {path}: this user may not write in {path.parent.absolute()}. "
            "Choose another place."
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in our words why a file could not be written.

    Raises:
        OutputUnwritable: No space, no right, or a failing disk.
    """
    try:
        yield
    except OSError as error:
        raise OutputUnwritable(
            f"cannot write {path}: {error.strerror or error}. Nothing was changed there; check "
            f"rights, free space and file-size limit of {path.parent.absolute()}, then run the "
            "same command again."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of ``path`` once it is complete and on the disk.

    Raises:
        UsageError: See :func:`check_output`.
        OutputUnwritable: See :func:`writing`.
    """
    check_output(path)
    with writing(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
