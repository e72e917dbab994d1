"""Takes proposed trials to their final state: build, look for a twin, measure, store.

    builds   [1][2][3][4]...          several at a time, ahead of the device
    device        [1]  [2][3] ...     one at a time, in the order of proposal

A trial that fails is recorded and the next one follows. Only a dead device ends the
loop: after many deaths in a row, a kernel that is known to work is tried.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace

from search.disk_space import require_space
from search.errors import DeviceLost
from search.events import TrialFinished
from search.history import TaskHistory
from search.tools import Tools
from search.trial import Build, Failure, LatencyMeasurement, Trial, TrialState

BUILDS_AHEAD = 64
"""Builds submitted but not yet measured; bounds files and memory."""

DEATHS_IN_A_ROW = 20

_MAY_WANT_SPACE = (TrialState.BUILD_ERROR, TrialState.RUN_ERROR)
_DEADLY = (TrialState.RUN_ERROR, TrialState.RUN_TIMEOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A trial that is being built."""

    trial: Trial
    build: Future[Build | Failure]


class TrialRunner:
    """Runs trials of one session, in the order they are added.

    Args:
        histories: By task id; receive every finished trial.
        tools: Of the session.
    """

    def __init__(self, histories: Mapping[str, TaskHistory], tools: Tools) -> None:
        self._histories = histories
        self._tools = tools
        self._n_deaths = 0
        self._coming: deque[Trial] = deque()
        self._waiting: deque[Waiting] = deque()

    def add(self, trials: Iterable[Trial]) -> None:
        """Queue trials; their builds start as soon as those before them allow."""
        self._coming.extend(trials)
        self._submit()

    def _submit(self) -> None:
        while self._coming and len(self._waiting) < BUILDS_AHEAD:
            trial = self._coming.popleft()
            task = self._histories[trial.task_id].task
            future = self._tools.libraries.submit(task, trial)
            self._waiting.append(Waiting(trial=trial, build=future))

    @property
    def front(self) -> Waiting | None:
        """The trial that is finished next."""
        return self._waiting[0] if self._waiting else None

    def finish_front(self) -> None:
        """Finish the oldest trial.

        Raises:
            Stopped: Asked to stop; the trial stays proposed.
            DeviceLost: Trials keep dying, and so does a kernel that worked before.
            DiskFull: It failed because nothing more fits; it stays proposed.
        """
        front = self._waiting.popleft()
        self._submit()
        self._finish(front.trial, front.build)

    def drop(self) -> None:
        """Forget every queued trial; it stays proposed."""
        self._coming.clear()
        while self._waiting:
            self._waiting.pop().build.cancel()

    def _finish(self, trial: Trial, future: Future[Build | Failure]) -> None:
        history = self._histories[trial.task_id]
        started_s = time.monotonic()
        with self._tools.spending.time("build_s"):
            outcome = self._tools.libraries.wait(trial, future)
        if isinstance(outcome, Failure) and outcome.state is TrialState.CANCELLED:
            # Cancelled builds belong to a stop; the trial stays proposed if there is one.
            self._tools.libraries.check_stop()
        waited_s = time.monotonic() - started_s
        with self._tools.spending.time("latency_s"):
            finished = self._measured(history, trial, outcome)
        if finished.state in _MAY_WANT_SPACE:
            require_space(self._tools.database.path.parent)
        build_s = finished.build.build_s if finished.build else waited_s
        run_s = time.monotonic() - started_s - waited_s
        loop_s = self._tools.spending.lap_s()
        finished = replace(finished, spent_s=build_s + run_s, loop_s=loop_s)
        finished = self._tools.database.finish(finished)
        history.add(finished)
        self._tools.events(
            TrialFinished(
                trial=finished,
                task=self._tools.progress.task(history),
                totals=self._tools.progress.totals(),
            )
        )
        self._watch_device(history, finished)

    def _measured(self, history: TaskHistory, trial: Trial, outcome: Build | Failure) -> Trial:
        if isinstance(outcome, Failure):
            return replace(trial, state=outcome.state, failure=outcome)
        trial = replace(trial, build=outcome)
        twin = history.twin_of(outcome.binary_id)
        # A default that failed may be tried again once the cause is mended.
        may_copy = twin is not None and (twin.failure is None or trial.origin != "default")
        if twin is not None and may_copy:
            return _copy_of_twin(trial, twin)
        return _with_timing(trial, self._time(history, outcome))

    def _time(self, history: TaskHistory, build: Build) -> LatencyMeasurement | Failure:
        try:
            return self._tools.runner.time(history.task, build)
        except Exception:
            return Failure(state=TrialState.RUN_ERROR, message=traceback.format_exc())

    def _watch_device(self, history: TaskHistory, trial: Trial) -> None:
        if trial.same_as is not None:
            return
        if trial.state not in _DEADLY:
            self._n_deaths = 0 if trial.latency is not None else self._n_deaths
            return
        self._n_deaths += 1
        if self._n_deaths < DEATHS_IN_A_ROW:
            return
        default = history.default_trial()
        if default is not None:
            build = self._tools.libraries.get(history.task, default)
            if isinstance(build, Build) and not isinstance(self._time(history, build), Failure):
                self._n_deaths = 0
                return
        raise DeviceLost(_device_lost_text(self._n_deaths, history, trial))


def _with_timing(trial: Trial, timing: LatencyMeasurement | Failure) -> Trial:
    if isinstance(timing, Failure):
        return replace(trial, state=timing.state, failure=timing)
    # A right default can always be shipped; an unsteady clock is no reason to end the run.
    if timing.verdict.usable or trial.origin == "default":
        return replace(trial, state=TrialState.OK, latency=timing)
    failure = Failure(
        state=TrialState.INVALID_MEASUREMENT,
        message=f"latency may not be used: {timing.verdict.value}",
    )
    return replace(trial, state=failure.state, latency=timing, failure=failure)


def _copy_of_twin(trial: Trial, twin: Trial) -> Trial:
    failure = twin.failure
    if failure is not None:
        note = f"same binary as trial {twin.trial_id}: {failure.message}"
        failure = replace(failure, message=note)
    return replace(
        trial, state=twin.state, latency=twin.latency, failure=failure, same_as=twin.trial_id
    )


def _device_lost_text(n_deaths: int, history: TaskHistory, trial: Trial) -> str:
    cause = trial.failure.message if trial.failure else trial.state.value
    return (
        f"stopped at trial {trial.trial_id}: {n_deaths} trials in a row died on the device, and "
        f"the default schedule of {history.task.workload.name} no longer runs either. "
        f"Last cause: {cause}\nCheck the device (effcompile doctor), then run the same command "
        "again: every finished trial is kept."
    )
