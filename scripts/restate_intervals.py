#!/usr/bin/env python3
"""State the intervals of a recording's energy windows anew: restate_intervals.py FILE.effrec

A window of two or three counter steps states its interval by its own scatter and by what
calibration saw, a dozen steps of one load. One of those that is seen late makes every interval of
a session too wide: 9.2 % on an H200 whose steps scatter by 0.9 to 2.4 %. Each window's own part
can be taken out of its interval; all windows of a workload together then take the place of the
calibration. Energies stay what they were. For recordings of one session, once per file.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from effcompile.measure.statistics import student_t
from effcompile.measure.windows import MOST_PRIOR_DEGREES
from search.meter_facts import MeterFacts
from search.recording import RecordedTask
from search.recording_file import read_recording, write_recording
from search.trial import EnergyMeasurement


def own_square(window: EnergyMeasurement, facts: MeterFacts) -> float:
    """Square of the scatter between a window's blocks, as a share of its power."""
    n, n_prior = window.n_steps - 1, min(facts.n_degrees, MOST_PRIOR_DEGREES)
    degrees = n - 1 + n_prior
    share = (window.ci95_mj or 0.0) / (window.energy_mj or 1.0)
    square = (share**2 - beat_share(facts) ** 2) * n / student_t(degrees) ** 2
    return max(0.0, square * degrees - n_prior * facts.scatter_share**2) / (n - 1)


def beat_share(facts: MeterFacts) -> float:
    """What not knowing the counter's period adds."""
    return facts.period_ci95_ms / facts.period_ms


def restated(window: EnergyMeasurement, facts: MeterFacts, square: float) -> EnergyMeasurement:
    """With the interval that the workload's scatter, squared, and its own blocks give it."""
    if not has_interval(window):
        return window
    n, n_prior = window.n_steps - 1, MOST_PRIOR_DEGREES
    degrees = n - 1 + n_prior
    both = (own_square(window, facts) * (n - 1) + square * n_prior) / degrees
    share = np.hypot(student_t(degrees) * np.sqrt(both / n), beat_share(facts))
    return replace(window, ci95_mj=float(share * (window.energy_mj or 0.0)))


def has_interval(window: EnergyMeasurement) -> bool:
    """Whether there is anything to state anew."""
    return window.verdict.usable and window.ci95_mj is not None and window.n_steps > 2


def restated_task(task: RecordedTask, facts: MeterFacts) -> RecordedTask:
    """One workload."""
    windows = [w for one in task.binaries for w in one.windows if has_interval(w)]
    squares = [own_square(one, facts) for one in windows]
    square = float(np.average(squares, weights=[one.n_steps - 2 for one in windows]))
    print(f"{task.task.workload.name}: steps scatter by {100 * square**0.5:.2f} %")
    binaries = tuple(
        replace(one, windows=tuple(restated(w, facts, square) for w in one.windows))
        for one in task.binaries
    )
    return replace(task, binaries=binaries)


def main(path: Path) -> None:
    """Rewrite one file."""
    recording = read_recording(path)
    (facts,) = recording.meters
    tasks = tuple(restated_task(task, facts) for task in recording.tasks)
    write_recording(replace(recording, tasks=tasks), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
