"""A recording as rows that models learn from, and are judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cost_models.energy_rows import EnergyRows, stacked
from cost_models.features import compiler_features
from search.recording import RecordedBinary, RecordedTask, Recording


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedRows:
    """Timed binaries of one task and one design space, in the order they were tried.

    Attributes:
        name: Of the workload.
        space: Of the design space.
        rows: What models may look at.
        binary_ids: One per row.
        energy_mj: Measured energy, nan where there is none, shape (n,).
        noise_mj: Standard deviation of one measurement of it, likewise.
        limit_w: The device's power limit, ``None`` if unknown.
    """

    name: str
    space: str
    rows: EnergyRows
    binary_ids: tuple[str, ...]
    energy_mj: np.ndarray
    noise_mj: np.ndarray
    limit_w: float | None = None

    @property
    def has_energy(self) -> np.ndarray:
        """Which rows have an energy, shape (n,)."""
        return np.asarray(np.isfinite(self.energy_mj))

    def taken(self, chosen: np.ndarray) -> RecordedRows:
        """Some of the rows, by mask or places."""
        return replace(
            self,
            rows=self.rows.taken(chosen),
            binary_ids=tuple(np.array(self.binary_ids, dtype=object)[chosen]),
            energy_mj=self.energy_mj[chosen],
            noise_mj=self.noise_mj[chosen],
        )


def recorded_rows(recording: Recording) -> list[RecordedRows]:
    """Rows of every task and space with at least one timed binary; groups number the tasks."""
    found = [
        _rows(task, position, space_place)
        for position, task in enumerate(recording.tasks)
        for space_place in range(len(task.spaces))
    ]
    return [one for one in found if len(one.rows)]


def _rows(task: RecordedTask, position: int, space_place: int) -> RecordedRows:
    space = task.spaces[space_place]
    binaries = {one.binary_id: one for one in task.binaries if one.latency and not one.failure}
    # Candidates that compile to the same code are one row.
    first: dict[str, int] = {}
    for place, candidate in enumerate(space.candidates):
        if candidate.binary_id in binaries:
            first.setdefault(candidate.binary_id, place)
    chosen = [binaries[binary_id] for binary_id in first]
    latency_us = np.array([one.latency.latency_us for one in chosen if one.latency])
    n_rows = len(chosen)
    energies = np.array([_or_nan(one.energy_mj()) for one in chosen])
    noise = np.array([one.noise_share() for one in chosen]) * energies
    return RecordedRows(
        name=task.task.workload.name,
        space=space.name,
        rows=EnergyRows(
            early=space.features()[list(first.values())],
            late=_late(task, chosen),
            latency_us=latency_us,
            groups=np.full(n_rows, position, dtype=np.int64),
            flops=np.array([_or_nan(one.stats.flops) for one in chosen]),
            unique_bytes=np.array([_or_nan(one.stats.unique_bytes) for one in chosen]),
            least_mj=np.full(n_rows, np.nan),
        ),
        binary_ids=tuple(first),
        energy_mj=energies,
        noise_mj=noise,
        limit_w=_limit_w(task),
    )


def _limit_w(task: RecordedTask) -> float | None:
    windows = [window for binary in task.binaries for window in binary.windows]
    return max((w for one in windows for w in one.conditions.power_limit_w), default=None)


def _late(task: RecordedTask, binaries: Sequence[RecordedBinary]) -> np.ndarray:
    rows = [
        compiler_features(one.stats, latency_us=one.latency.latency_us, target=task.task.target)
        for one in binaries
        if one.latency is not None
    ]
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(rows[0]) if rows else 0)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def late_rows(
    parts: Sequence[RecordedRows], chosen: Callable[[RecordedRows], np.ndarray]
) -> tuple[EnergyRows, np.ndarray]:
    """Rows of several spaces with the features that all spaces share, and their energies.

    Args:
        parts: At least one.
        chosen: Mask of the rows to take of each.
    """
    taken = [part.taken(chosen(part)) for part in parts]
    rows = stacked([replace(one.rows, early=one.rows.early[:, :0]) for one in taken])
    return rows, np.concatenate([one.energy_mj for one in taken])
