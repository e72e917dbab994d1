"""Layout of the database of a run folder."""

from __future__ import annotations

APPLICATION_ID = 0x45464643
"""Marks the file as ours (the letters EFFC)."""

SCHEMA_VERSION = 2

TABLES = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY, payload BLOB NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE TABLE tasks (
    position INTEGER PRIMARY KEY, payload BLOB NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE TABLE rounds (
    round_id INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL, round_index INTEGER NOT NULL, n_proposed INTEGER NOT NULL,
    checksum TEXT NOT NULL, energy_planned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE trials (
    trial_id INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL, round_index INTEGER NOT NULL, origin TEXT NOT NULL,
    space TEXT NOT NULL, decisions BLOB NOT NULL, checksum TEXT NOT NULL,
    state TEXT, result BLOB, result_checksum TEXT
) STRICT;
CREATE INDEX trials_of_task ON trials (task_id);
CREATE TABLE energies (
    energy_id INTEGER PRIMARY KEY,
    round_index INTEGER NOT NULL, phase TEXT NOT NULL, plan BLOB NOT NULL,
    checksum TEXT NOT NULL,
    payload BLOB, payload_checksum TEXT
) STRICT;
CREATE TABLE finals (
    task_id TEXT PRIMARY KEY, payload BLOB NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE TABLE sessions (
    session_id INTEGER PRIMARY KEY, payload BLOB NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE TABLE notes (
    note_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, payload BLOB NOT NULL, checksum TEXT NOT NULL
) STRICT;
CREATE TABLE quarantine (
    quarantine_id INTEGER PRIMARY KEY,
    origin TEXT NOT NULL, row_id TEXT NOT NULL, cause TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
"""
