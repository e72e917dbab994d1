"""Reads rows that may be damaged: what no longer reads is set aside, the rest loads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from search.connection import Connection
from search.records import BadRecord, Row
from search.stored import Quarantined

logger = logging.getLogger(__name__)
T = TypeVar("T")

_KEYS = {
    "meta": "key",
    "tasks": "position",
    "rounds": "round_id",
    "trials": "trial_id",
    "energies": "energy_id",
    "finals": "task_id",
    "sessions": "session_id",
    "notes": "note_id",
}
"""Key column of every table."""


class CarefulReader:
    """Loads records of one database; a row that does not read costs one warning.

    Args:
        connection: Of the database. One that may write moves such rows into its quarantine
            table; a reading one only remembers them.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._set_aside: dict[tuple[str, str], Quarantined] = {}

    def load(
        self, table: str, query: str, parse: Callable[[Row], T], values: tuple[object, ...] = ()
    ) -> list[T]:
        """Every row that reads, as a record.

        Args:
            table: Where the rows stand.
            query: Selects them, the key first.
            parse: Makes the record; raises :class:`search.records.BadRecord` on damage.
            values: Of the query's placeholders.
        """
        good: list[T] = []
        for row in self._connection.read(query, values):
            try:
                good.append(parse(row))
            except BadRecord as error:
                self._put_aside(table, row, str(error))
        return good

    def quarantined(self) -> list[Quarantined]:
        """Rows that were set aside, in this and in earlier sessions."""
        rows = self._connection.read(
            "SELECT origin, row_id, cause FROM quarantine ORDER BY quarantine_id"
        )
        stored = [Quarantined(table=str(a), row_id=str(b), cause=str(c)) for a, b, c in rows]
        known = {(one.table, one.row_id) for one in stored}
        return stored + [one for key, one in self._set_aside.items() if key not in known]

    def _put_aside(self, table: str, row: Row, cause: str) -> None:
        key = (table, str(row[0]))
        if key in self._set_aside:
            return
        self._set_aside[key] = Quarantined(table=table, row_id=key[1], cause=cause)
        logger.warning(
            "%s: row %s of table %s is damaged and was set aside: %s",
            self._connection.path,
            key[1],
            table,
            cause,
        )
        if self._connection.read_only:
            return
        column = _KEYS[table]
        with self._connection.transaction() as raw:
            raw.execute(
                "INSERT INTO quarantine (origin, row_id, cause, content) VALUES (?, ?, ?, ?)",
                (table, key[1], cause, repr(row).encode("utf-8", "replace")),
            )
            raw.execute(f"DELETE FROM {table} WHERE {column} = ?", (row[0],))
