"""Measure the best of a task again, interleaved with the default, before one may win.

The best of many noisy numbers looks better than it is; only fresh ones go into reports.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from search.comparison import decide, ratio_of
from search.config import SearchConfig
from search.events import FinalsStarted, TaskFinished
from search.final import Final, Finalist
from search.final_effort import final_effort
from search.history import TaskHistory
from search.learner import Learner
from search.objective import Point, rank
from search.pareto import front
from search.ports import FinalMeasurement
from search.tools import Tools
from search.trial import Build, Failure, Trial, TrialState


def pick_finalists(
    history: TaskHistory, config: SearchConfig, expected_mj: Mapping[int, float]
) -> list[Trial]:
    """Best distinct binaries of a task by objective, without the default's own.

    Half of the places go by what was measured; for the rest a predicted energy counts where
    none was measured. A lucky prediction can therefore not push out a proven candidate. The
    fastest in short bursts always has a place beside the best: a single energy window that shows
    it late or hungry may err, and nobody shall win who would lose to it.

    Args:
        history: The task.
        config: Number of places, and what may be slower.
        expected_mj: Predicted energies by trial id; empty if nothing predicts them.
    """
    default = history.default_trial()
    own = None if default is None or default.build is None else default.build.binary_id
    trials = {
        trial.trial_id: trial
        for trial in history.ok_trials()
        if trial.same_as is None and trial.build is not None and trial.build.binary_id != own
    }
    points = [history.point(trial) for trial in trials.values()]
    hoped = [_with_energy(point, expected_mj) for point in points]
    n_measured = math.ceil(config.n_finalists / 2) if expected_mj else config.n_finalists - 1
    order = [
        *rank(points, max_slowdown=config.max_slowdown)[: max(1, n_measured)],
        *sorted(points, key=lambda one: (one.latency_us, one.trial_id))[:1],
        *rank(hoped, max_slowdown=config.max_slowdown),
    ]
    ids = list(dict.fromkeys(point.trial_id for point in order))
    return [trials[trial_id] for trial_id in ids[: config.n_finalists]]


def _with_energy(point: Point, expected_mj: Mapping[int, float]) -> Point:
    if point.energy_mj is not None:
        return point
    return replace(point, energy_mj=expected_mj.get(point.trial_id))


def settings_text(config: SearchConfig) -> str:
    """What an outcome depends on beside the trials."""
    return f"{config.n_finalists} finalists, {config.n_final_rounds} rounds"


def is_current(final: Final | None, history: TaskHistory, config: SearchConfig) -> bool:
    """True if an outcome still stands: no newer trials, same settings."""
    return (
        final is not None
        and bool(history.trials)
        and final.last_trial_id == history.trials[-1].trial_id
        and final.settings == settings_text(config)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRunner:
    """Settles the outcome of tasks in one session."""

    tools: Tools
    config: SearchConfig
    learner: Learner
    histories: Sequence[TaskHistory]

    def run(self, history: TaskHistory) -> Final:
        """Measure a task's finalists and store who won.

        Raises:
            Stopped: Asked to stop before the measurement began.
        """
        default = history.default_trial()
        if default is None:
            raise ValueError(f"task {history.task.task_id} has no default that ran")
        chosen = pick_finalists(history, self.config, self._expected_mj(history))
        self.tools.libraries.check_stop()
        self.tools.events(
            FinalsStarted(
                task=self.tools.progress.task(history),
                n_finalists=len(chosen),
                totals=self.tools.progress.totals(),
            )
        )
        with self.tools.spending.time("final_s"):
            finalists = self._compare(history, [default, *chosen])
        decision = decide(finalists[0], finalists[1:], max_slowdown=self.config.max_slowdown)
        final = Final(
            task_id=history.task.task_id,
            default_trial_id=default.trial_id,
            winner_trial_id=decision.trial_id,
            criterion=decision.criterion,
            is_tie=decision.is_tie,
            finalists=tuple(finalists),
            front=front(history.points()),
            last_trial_id=history.trials[-1].trial_id,
            settings=settings_text(self.config),
        )
        self.tools.database.store_final(final)
        self.tools.events(
            TaskFinished(
                final=final,
                task=self.tools.progress.task(history),
                totals=self.tools.progress.totals(),
            )
        )
        return final

    def _expected_mj(self, history: TaskHistory) -> dict[int, float]:
        trials = [trial for trial in history.ok_trials() if trial.build is not None]
        with self.tools.spending.time("model_s"):
            expected = self.learner.energy_of(history, trials) if trials else None
        if expected is None:
            return {}
        return {one.trial_id: float(expected.mean[i]) for i, one in enumerate(trials)}

    def _compare(self, history: TaskHistory, trials: Sequence[Trial]) -> list[Finalist]:
        """One finalist per trial in the given order; the first is the reference of ratios."""
        outcomes = [self.tools.libraries.get(history.task, trial) for trial in trials]
        builds = [build for build in outcomes if isinstance(build, Build)]
        measured = iter(self._measure(history, builds))
        found = [next(measured) if isinstance(outcome, Build) else outcome for outcome in outcomes]
        has_reference = isinstance(found[0], FinalMeasurement)
        finalists = [
            finalist_of(trial.trial_id, one) for trial, one in zip(trials, found, strict=True)
        ]
        if has_reference:
            return finalists
        return [
            replace(one, latency_ratio=None, energy_ratio=None, sustained_ratio=None)
            for one in finalists
        ]

    def _measure(
        self, history: TaskHistory, builds: Sequence[Build]
    ) -> list[FinalMeasurement | Failure]:
        runner = self.tools.runner
        effort = final_effort(
            history, self.histories, self.config, measures_energy=runner.measures_energy
        )
        try:
            measured = runner.compare(history.task, builds, effort)
        except Exception:
            failure = Failure(state=TrialState.RUN_ERROR, message=traceback.format_exc())
            return [failure] * len(builds)
        for one in measured:
            if isinstance(one, FinalMeasurement):
                self.tools.spending.add_energy(one.energy)
        return measured


def finalist_of(trial_id: int, found: FinalMeasurement | Failure) -> Finalist:
    """One trial with the intervals of its ratios, as far as what they come from is usable."""
    if isinstance(found, Failure):
        return Finalist(trial_id=trial_id, failure=found)
    usable = found.latency.verdict.usable
    has_energy = usable and found.energy.verdict.usable
    return Finalist(
        trial_id=trial_id,
        measurement=found,
        latency_ratio=ratio_of(found.latency_ratios) if usable else None,
        energy_ratio=ratio_of(found.energy_ratios) if has_energy else None,
        sustained_ratio=ratio_of(found.sustained_ratios) if has_energy else None,
    )
