"""How soon a run had good points, a row per task and one for all."""

from __future__ import annotations

from collections.abc import Sequence

from effcompile.bench.median_and_worst import median_and_worst
from effcompile.bench.reach import Reach


def rows_of(found: Sequence[Reach], *, within: float) -> list[dict[str, object]]:
    """The table; its last row holds median and worst over tasks."""
    trials, seconds = f"trials to within {within:.0%}", f"seconds to within {within:.0%}"
    rows: list[dict[str, object]] = [
        {
            "task": one.task,
            "trials": one.n_trials,
            "seconds": one.loop_s,
            "best, us": one.best_us,
            "best known, us": one.known_us,
            trials: "never" if one.n_trials_within is None else one.n_trials_within,
            seconds: one.within_s,
        }
        for one in found
    ]
    every = {
        "task": "all: median, worst",
        "trials": sum(one.n_trials for one in found),
        "seconds": sum(one.loop_s or 0.0 for one in found),
        "best, us": None,
        "best known, us": None,
        trials: median_and_worst([one.n_trials_within for one in found], ".3g"),
        seconds: median_and_worst([one.within_s for one in found], ".3g"),
    }
    return [*rows, every]
