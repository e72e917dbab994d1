"""Rows that are a key and one record: settings, tasks, outcomes, sessions."""

from __future__ import annotations

import sqlite3
from typing import Any, TypeVar

from search.records import Row, checksum, pack, require, unpack

T = TypeVar("T")


def put(raw: sqlite3.Connection, table: str, key: str | int, record: Any) -> None:
    """Add a record, or replace the one of the same key."""
    data = pack(record)
    raw.execute(
        f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", (key, data, checksum(key, data))
    )


def parse_payload(row: Row, record_type: type[T]) -> T:
    """The record of a (key, payload, checksum) row."""
    key, data, recorded = row
    require(recorded, key, data)
    return unpack(data, record_type)
