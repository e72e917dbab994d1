"""Rows of energy measurements: a plan first, the measurement added once."""

from __future__ import annotations

import sqlite3

from search.records import Row, checksum, pack, require, unpack
from search.stored import EnergyPhase, EnergyPlan, EnergyRecord
from search.trial import EnergyMeasurement

SELECT_ENERGIES = (
    "SELECT energy_id, round_index, phase, plan, checksum, payload, payload_checksum"
    " FROM energies ORDER BY energy_id"
)


def insert_energy(
    raw: sqlite3.Connection, plan: EnergyPlan, round_index: int, phase: EnergyPhase
) -> EnergyRecord:
    """Add a planned measurement."""
    key = (round_index, phase, pack(plan))
    cursor = raw.execute(
        "INSERT INTO energies (round_index, phase, plan, checksum) VALUES (?, ?, ?, ?)",
        (*key, checksum(*key)),
    )
    assert cursor.lastrowid is not None
    return EnergyRecord(
        energy_id=cursor.lastrowid,
        plan=plan,
        round_index=round_index,
        phase=phase,
        measurement=None,
    )


def add_measurement(
    raw: sqlite3.Connection, energy: EnergyRecord, measurement: EnergyMeasurement
) -> bool:
    """Add what was measured; whether the plan was there and had been waiting for it."""
    data = pack(measurement)
    changed = raw.execute(
        "UPDATE energies SET payload = ?, payload_checksum = ?"
        " WHERE energy_id = ? AND payload IS NULL",
        (data, checksum(energy.energy_id, data), energy.energy_id),
    )
    return changed.rowcount == 1


def parse_energy(row: Row) -> EnergyRecord:
    """The energy measurement of a full row, planned or taken."""
    energy_id, round_index, phase, plan, recorded, data, data_recorded = row
    require(recorded, round_index, phase, plan)
    measurement = None
    if data is not None:
        require(data_recorded, energy_id, data)
        measurement = unpack(data, EnergyMeasurement)
    return EnergyRecord(
        energy_id=energy_id,
        plan=unpack(plan, EnergyPlan),
        round_index=round_index,
        phase=phase,
        measurement=measurement,
    )
