"""What an energy model may look at: one row per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnergyRows:
    """Candidates whose latency is measured, or at least predicted.

    Attributes:
        early: Features known before building, float32, shape (n, n_early).
        late: Compiler and launch features, float32, shape (n, n_late); no columns before
            building.
        latency_us: Microseconds per launch, float64, shape (n,).
        groups: Number of the task each row belongs to, int64, shape (n,).
        flops: Operations of the workload, float64, shape (n,); nan if not counted.
        unique_bytes: Each input read once, each output written once, same shape; nan likewise.
        least_mj: Least measured energy of the row's task, same shape; nan if none is known.
    """

    early: np.ndarray
    late: np.ndarray
    latency_us: np.ndarray
    groups: np.ndarray
    flops: np.ndarray
    unique_bytes: np.ndarray
    least_mj: np.ndarray

    def __len__(self) -> int:
        return len(self.latency_us)

    @property
    def features(self) -> np.ndarray:
        """All features side by side, float32, shape (n, n_early + n_late)."""
        return np.hstack([self.early, self.late])

    def taken(self, chosen: np.ndarray) -> EnergyRows:
        """Some of the rows, by mask or places."""
        return EnergyRows(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})


def power_w(energy_mj: np.ndarray, latency_us: np.ndarray) -> np.ndarray:
    """Watts that spend an energy in a latency, element by element."""
    return np.asarray(energy_mj * 1e3 / latency_us)


def energy_mj(power_w: np.ndarray, latency_us: np.ndarray) -> np.ndarray:
    """Millijoules per launch at a power and a latency, element by element."""
    return np.asarray(power_w * latency_us * 1e-3)


def stacked(parts: Sequence[EnergyRows]) -> EnergyRows:
    """Several sets of rows as one; all have the same columns."""
    return EnergyRows(
        early=np.concatenate([one.early for one in parts]),
        late=np.concatenate([one.late for one in parts]),
        latency_us=np.concatenate([one.latency_us for one in parts]),
        groups=np.concatenate([one.groups for one in parts]),
        flops=np.concatenate([one.flops for one in parts]),
        unique_bytes=np.concatenate([one.unique_bytes for one in parts]),
        least_mj=np.concatenate([one.least_mj for one in parts]),
    )
