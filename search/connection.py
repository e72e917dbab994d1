"""An SQLite connection that survives kills and says in our words what went wrong."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.errors import (
    DatabaseDamaged,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseUnwritable,
    DatabaseVersion,
    DiskFull,
    SearchError,
)
from search.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

BUSY_TIMEOUT_S = 5.0


class Connection:
    """One open database file; every change is a transaction that is on disk when it returns."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Open, check, and create the tables of a new file.

        Raises:
            DatabaseMissing: Nothing to read.
            DatabaseVersion: Written with another layout.
            DatabaseDamaged: Not one of our databases, or inconsistent.
            DatabaseUnwritable: No right to write.
        """
        self.path = path
        self.read_only = read_only
        if read_only and not path.exists():
            raise DatabaseMissing(
                f"cannot read {path}: no such file. Name the folder that tuning wrote with --out."
            )
        with self._translated("open"):
            self._raw = sqlite3.connect(
                f"{path.resolve().as_uri()}?{_open_options(path, read_only=read_only)}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
            )
        # Damaged text must reach the row's checksum instead of failing the whole query.
        self._raw.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            self._prepare(read_only=read_only)
        except BaseException:
            self._raw.close()
            raise

    def _prepare(self, *, read_only: bool) -> None:
        with self._translated("open"):
            if not read_only:
                self._raw.execute("PRAGMA journal_mode=WAL")
                self._raw.execute("PRAGMA synchronous=FULL")
            n_tables = self._raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if n_tables == 0 and read_only:
            raise DatabaseMissing(
                f"cannot read {self.path}: it is empty, so no run was started here. "
                "Run the tuning command again."
            )
        if n_tables == 0 and not read_only:
            self._create()
        self._check_layout()
        self._check_pages()

    def _create(self) -> None:
        with self.transaction() as raw:
            for statement in TABLES.split(";\n"):
                raw.execute(statement)
            raw.execute(f"PRAGMA application_id={APPLICATION_ID}")
            raw.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _check_layout(self) -> None:
        with self._translated("open"):
            application = self._raw.execute("PRAGMA application_id").fetchone()[0]
            version = self._raw.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise DatabaseDamaged(
                f"cannot use {self.path}: application id is {application:#x}, expected "
                f"{APPLICATION_ID:#x}, so another program wrote it. Choose another folder."
            )
        if version != SCHEMA_VERSION:
            raise DatabaseVersion(
                f"cannot use {self.path}: its layout is version {version}, this program reads "
                f"{SCHEMA_VERSION}. Use the program version that wrote it, or start a new run."
            )

    def _check_pages(self) -> None:
        with self._translated("check"):
            found = self._raw.execute("PRAGMA integrity_check(3)").fetchall()
        if found != [("ok",)]:
            causes = "; ".join(row[0].replace("\n", " ") for row in found)
            raise DatabaseDamaged(self._damage_text(causes))

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """All rows of a query."""
        with self._translated("read"):
            return self._raw.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All changes made inside reach the disk together, or none does."""
        with self._translated("write"):
            self._raw.execute("BEGIN IMMEDIATE")
            try:
                yield self._raw
                self._raw.execute("COMMIT")
            except BaseException:
                if self._raw.in_transaction:
                    self._raw.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; finished transactions are already on disk."""
        self._raw.close()

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            raise self._translate(action, error) from error
        except UnicodeDecodeError as error:
            # The binding itself fails to decode SQLite's message about a damaged schema.
            raise DatabaseDamaged(self._damage_text(str(error))) from error

    def _translate(self, action: str, error: sqlite3.DatabaseError) -> SearchError:
        # Python 3.10 does not carry SQLite's error code, only its fixed texts.
        text = str(error)
        failed = f"cannot {action} {self.path}: {text}. "
        if "locked" in text:
            return DatabaseLocked(
                f"{failed}Another process held it for over {BUSY_TIMEOUT_S:.0f} s; "
                "stop that process, then run the same command again."
            )
        if "is full" in text:
            free_mib = shutil.disk_usage(self.path.parent).free // 2**20
            return DiskFull(
                f"{failed}{free_mib} MiB are free there. Free some space, then run the same "
                "command again: every finished trial is kept."
            )
        if "readonly" in text or "unable to open" in text or "disk I/O" in text:
            return DatabaseUnwritable(
                f"{failed}Check rights, free space and file-size limit of {self.path.parent}, "
                "then run the same command again: every finished trial is kept."
            )
        return DatabaseDamaged(self._damage_text(text))

    def _damage_text(self, cause: str) -> str:
        return (
            f"database {self.path} is damaged: {cause}. "
            "Restore it from a copy, or start a new run in another folder with --out."
        )


def _open_options(path: Path, *, read_only: bool) -> str:
    if not read_only:
        return "mode=rwc"
    log_exists = path.with_name(path.name + "-wal").exists()
    # Reading needs a shared-memory file beside the database, except where nobody can write.
    if not log_exists and not os.access(path.parent, os.W_OK):
        return "mode=ro&immutable=1"
    return "mode=ro"
