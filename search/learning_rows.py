"""From the trials of a task to the rows an energy model looks at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from cost_models.energy_rows import EnergyRows, stacked
from cost_models.features import FEATURE_NAMES, compiler_features
from search.history import TaskHistory
from search.trial import Trial

FoundRows = tuple[TaskHistory, list[Trial], np.ndarray | None]
"""A task, some of its usable trials, and their early features, ``None`` for none."""


def has_energy(history: TaskHistory) -> Callable[[Trial], bool]:
    """Whether an ``OK`` trial of the task has a usable energy."""
    return lambda trial: history.point(trial).energy_mj is not None


def draft_rows(history: TaskHistory, early: np.ndarray, latency_us: np.ndarray) -> EnergyRows:
    """Candidates that were not built yet, with predicted latencies, shape (n,)."""
    late = np.empty((len(early), 0), dtype=np.float32)
    return _rows(history, early=early, late=late, latency_us=latency_us)


def built_rows(
    history: TaskHistory, trials: Sequence[Trial], early: np.ndarray | None
) -> EnergyRows:
    """Built and timed trials.

    Args:
        history: Their task.
        trials: Any of its ``OK`` trials.
        early: Features known before building, shape (n, n_early); ``None`` for none.
    """
    if early is None:
        early = np.empty((len(trials), 0), dtype=np.float32)
    late = [_compiler_numbers(history, trial) for trial in trials]
    return _rows(
        history,
        early=early,
        late=np.array(late, dtype=np.float32).reshape(len(trials), len(FEATURE_NAMES)),
        latency_us=np.array([history.point(trial).latency_us for trial in trials]),
    )


def measured_rows(
    found: Sequence[FoundRows],
) -> tuple[EnergyRows, np.ndarray]:
    """Rows of several tasks with their measured energies, millijoules, shape (n,)."""
    energies = [one.point(trial).energy_mj for one, trials, _ in found for trial in trials]
    rows = stacked([built_rows(one, trials, early) for one, trials, early in found])
    return rows, np.array(energies, dtype=np.float64)


def _rows(
    history: TaskHistory, *, early: np.ndarray, late: np.ndarray, latency_us: np.ndarray
) -> EnergyRows:
    n_rows = len(latency_us)
    flops, unique_bytes = _counts(history)
    return EnergyRows(
        early=early,
        late=late,
        latency_us=latency_us,
        groups=np.full(n_rows, history.position, dtype=np.int64),
        flops=np.full(n_rows, flops),
        unique_bytes=np.full(n_rows, unique_bytes),
        least_mj=np.full(n_rows, _least_mj(history)),
    )


def _counts(history: TaskHistory) -> tuple[float, float]:
    """Operations and bytes of the workload, nan where no build counted them."""
    for trial in history.trials:
        if trial.build is not None:
            stats = trial.build.stats
            return (
                math.nan if stats.flops is None else stats.flops,
                math.nan if stats.unique_bytes is None else float(stats.unique_bytes),
            )
    return math.nan, math.nan


def _least_mj(history: TaskHistory) -> float:
    known = [one.energy_mj for one in history.points() if one.energy_mj is not None]
    return min(known, default=math.nan)


def _compiler_numbers(history: TaskHistory, trial: Trial) -> np.ndarray:
    if trial.build is None:
        raise ValueError(f"trial {trial.trial_id} was never built")
    return compiler_features(
        trial.build.stats,
        latency_us=history.point(trial).latency_us,
        target=history.task.target,
    )
