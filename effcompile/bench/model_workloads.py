"""Workloads of a recording as the rows that models learn from and are judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effcompile.bench.model_judging import Reachable, reachable
from search.recorded_rows import RecordedRows, recorded_rows
from search.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedWorkload:
    """One workload.

    Attributes:
        name: Distinct within the recording.
        parts: Its rows, by design space.
    """

    name: str
    parts: list[RecordedRows]

    def measured(self) -> list[RecordedRows]:
        """The rows with an energy."""
        return [one.taken(one.has_energy) for one in self.parts]

    def in_band(self, rows: RecordedRows, band: float) -> RecordedRows:
        """Those of some rows within a share of the workload's least latency."""
        best_us = min(float(one.rows.latency_us.min()) for one in self.parts)
        return rows.taken(np.asarray(rows.rows.latency_us <= best_us * (1.0 + band)))

    def judged(self, band: float) -> list[RecordedRows]:
        """The measured rows inside the band: the others are never asked for."""
        return [self.in_band(one, band) for one in self.measured()]

    def n_judged(self, band: float) -> int:
        """How many those are."""
        return sum(len(one.rows) for one in self.judged(band))

    def reachable(self, band: float) -> Reachable:
        """What a perfect model would reach on them."""
        parts = self.judged(band)
        return reachable(
            np.concatenate([one.energy_mj for one in parts]),
            np.concatenate([one.noise_mj for one in parts]),
        )


def workloads_of(recording: Recording) -> list[JudgedWorkload]:
    """Every workload of a recording, in order."""
    by_task: dict[int, list[RecordedRows]] = {}
    for one in recorded_rows(recording):
        by_task.setdefault(int(one.rows.groups[0]), []).append(one)
    # Two tasks may bear one name; workloads are told apart by it.
    names = [parts[0].name for parts in by_task.values()]
    return [
        JudgedWorkload(
            name=parts[0].name
            if names.count(parts[0].name) == 1
            else f"{parts[0].name} {task + 1}",
            parts=parts,
        )
        for task, parts in by_task.items()
    ]
