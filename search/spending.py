"""What a session of tuning costs, kept up to date in the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from search.database import Database
from search.trial import EnergyMeasurement

Phase = Literal["build_s", "latency_s", "energy_s", "final_s", "model_s"]


class Spending:
    """Seconds by phase and joules of the running session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = database.start_session()
        self._seconds: dict[Phase, float] = {}
        self._lap_started_s = 0.0
        self._window_energy_j: float | None = None

    @contextmanager
    def time(self, phase: Phase) -> Iterator[None]:
        """Add the body's wall time to a phase, also if it raises."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            spent_s = time.monotonic() - started_s
            self._seconds[phase] = self._seconds.get(phase, 0.0) + spent_s

    def lap_s(self) -> float:
        """Seconds of planning, building and timing since this was asked before."""
        phases: tuple[Phase, ...] = ("build_s", "latency_s", "model_s")
        now_s = sum(self._seconds.get(phase, 0.0) for phase in phases)
        lap_s, self._lap_started_s = now_s - self._lap_started_s, now_s
        return lap_s

    def add_energy(self, measurement: EnergyMeasurement) -> None:
        """Add the joules of a measuring window, usable or not."""
        if measurement.window_energy_mj > 0.0:
            spent_j = measurement.window_energy_mj * 1e-3
            self._window_energy_j = (self._window_energy_j or 0.0) + spent_j

    def save(self, *, n_trials: int, stopped_by: str = "") -> None:
        """Write what was spent so far; a reason to stop also ends the session."""
        self._session = self._database.update_session(
            replace(
                self._session,
                n_trials=n_trials,
                stopped_by=stopped_by,
                window_energy_j=self._window_energy_j,
                build_s=self._seconds.get("build_s", 0.0),
                latency_s=self._seconds.get("latency_s", 0.0),
                energy_s=self._seconds.get("energy_s", 0.0),
                final_s=self._seconds.get("final_s", 0.0),
                model_s=self._seconds.get("model_s", 0.0),
            ),
            ended=bool(stopped_by),
        )
