"""A bounded folder of content-addressed entries that many processes share.

An entry is one file: a checksum, then the payload. It is written beside its place and
renamed, so readers see a whole entry or none; a damaged one is deleted and counts as
absent. The least recently used entries go first when the folder is full.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST_BYTES = 32
_ROOM_AFTER_CLEANING = 0.8


def user_cache_dir() -> Path:
    """The user's folder for this project's caches, by the XDG convention."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "effcompile"


class DiskCache:
    """Bytes by key.

    Args:
        folder: Made on the first write.
        max_bytes: Size above which old entries are deleted.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 2 << 30) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path_of(self, key: str) -> Path:
        """Where an entry lives; keys are hexadecimal digests."""
        return self.folder / key[:2] / key

    def get(self, key: str) -> bytes | None:
        """The payload, or ``None`` if there is none or it is damaged."""
        path = self.path_of(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        payload = data[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != data[:_DIGEST_BYTES]:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store a payload; a full or read-only disk costs the entry, not the caller's work."""
        with contextlib.suppress(OSError):
            write_beside(self.path_of(key), hashlib.sha256(payload).digest() + payload)
            # Sizing the folder reads every entry, so only one write in sixteen does it.
            if key.endswith("0"):
                self.clean()

    def clean(self) -> None:
        """Delete the least recently used entries if the folder is over its size."""
        entries = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                entries.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(entries):
            path.unlink(missing_ok=True)
            total -= size
            if total <= self.max_bytes * _ROOM_AFTER_CLEANING:
                return


def write_beside(path: Path, data: bytes) -> None:
    """Write a whole file, or leave what was there: beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
