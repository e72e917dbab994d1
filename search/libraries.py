"""Builds of trials that are to be measured again, perhaps in a later process."""

from __future__ import annotations

import concurrent.futures
import traceback
from collections.abc import Callable
from concurrent.futures import Future

from schedules.task import Task
from search.ports import Builder
from search.stopping import StopRequest
from search.trial import Build, Failure, Trial, TrialState

POLL_S = 0.2


class Stopped(Exception):
    """The loop was asked to stop while it waited; carries the word for the session."""


class Libraries:
    """Keeps this session's builds and repeats those of earlier ones.

    A library's file may have been cleaned up between sessions; building again goes
    through the builder's cache and therefore costs next to nothing.
    """

    def __init__(self, builder: Builder, stop: StopRequest, is_late: Callable[[], bool]) -> None:
        self._builder = builder
        self._stop = stop
        self._is_late = is_late
        self._built: dict[int, Build] = {}

    def submit(self, task: Task, trial: Trial) -> Future[Build | Failure]:
        """Start a trial's build."""
        return self._builder.submit(task, trial.candidate)

    def wait(self, trial: Trial, future: Future[Build | Failure]) -> Build | Failure:
        """The outcome of a build, looking up now and then for a request to stop.

        Raises:
            Stopped: Before the build was done.
        """
        while not future.done():
            self.check_stop()
            concurrent.futures.wait([future], timeout=POLL_S)
        error = future.exception()
        if error is not None:
            text = "".join(traceback.format_exception(error))
            return Failure(state=TrialState.BUILD_ERROR, message=text)
        outcome = future.result()
        if isinstance(outcome, Build):
            self._built[trial.trial_id] = outcome
        return outcome

    def check_stop(self) -> None:
        """Raise if nothing new may be started.

        Raises:
            Stopped: On request, or because the session's time is used up.
        """
        if self._stop.is_set:
            raise Stopped("request")
        if self._is_late():
            raise Stopped("seconds")

    def get(self, task: Task, trial: Trial) -> Build | Failure:
        """The build of a trial that was built before."""
        if trial.trial_id in self._built:
            return self._built[trial.trial_id]
        return self.wait(trial, self.submit(task, trial))
