"""Rows as bytes: JSON, compressed, with a checksum that notices every changed bit."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Row = tuple[Any, ...]
"""Of a table; the key first."""


class BadRecord(Exception):
    """A stored row does not match its checksum, or its content no longer parses.

    Internal to the database, which sets the row aside; never reaches a caller.
    """


def pack(value: Any) -> bytes:
    """Compressed canonical JSON of a record."""
    return zlib.compress(msgspec.json.encode(value, order="deterministic"), 6)


def unpack(data: bytes, record_type: type[T]) -> T:
    """The record that :func:`pack` was given.

    Raises:
        BadRecord: The bytes do not decompress or do not fit the type.
    """
    try:
        return msgspec.json.decode(zlib.decompress(data), type=record_type)
    except (zlib.error, msgspec.DecodeError, TypeError) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


def checksum(*columns: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the columns of a row."""
    digest = hashlib.sha256()
    for column in columns:
        data = column if isinstance(column, bytes) else str(column).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def require(expected: object, *columns: object) -> None:
    """Check a row against its stored checksum.

    Raises:
        BadRecord: They differ.
    """
    found = checksum(*columns)
    if found != expected:
        raise BadRecord(f"checksum is {found}, recorded {expected}")
