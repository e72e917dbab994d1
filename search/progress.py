"""Where a run stands, as the events report it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from search.budget import seconds_left
from search.config import SearchConfig
from search.events import TaskProgress, Totals
from search.history import TaskHistory
from search.objective import choose
from search.trial import Trial, TrialState


class Progress:
    """Counts and best numbers over the histories of a run."""

    def __init__(self, histories: Sequence[TaskHistory], config: SearchConfig) -> None:
        self._histories = histories
        self._config = config
        self._started_s = time.monotonic()
        self._n_before = self.n_trials
        self._has_limit = True
        self.n_planned = max(config.n_trials, len(histories))

    @property
    def n_trials(self) -> int:
        """Finished trials of all sessions."""
        return sum(len(history.trials) for history in self._histories)

    @property
    def n_trials_now(self) -> int:
        """Finished trials of this session."""
        return self.n_trials - self._n_before

    @property
    def elapsed_s(self) -> float:
        """Seconds of this session."""
        return time.monotonic() - self._started_s

    @property
    def is_late(self) -> bool:
        """True once the session's time for trials is used up."""
        limit_s = self._config.max_seconds
        return self._has_limit and limit_s is not None and self.elapsed_s >= limit_s

    def lift_limit(self) -> None:
        """Let what remains run as long as it takes: the limit is for trials, not for finals."""
        self._has_limit = False

    def totals(self) -> Totals:
        """The run as a whole."""
        n_trials, elapsed_s = self.n_trials, self.elapsed_s
        return Totals(
            n_trials=n_trials,
            n_planned=self.n_planned,
            failures=_failures(trial for one in self._histories for trial in one.trials),
            elapsed_s=elapsed_s,
            left_s=seconds_left(
                elapsed_s=elapsed_s,
                n_done=self.n_trials_now,
                n_left=max(0, self.n_planned - n_trials),
                limit_s=self._config.max_seconds,
            ),
        )

    def tasks(self) -> tuple[TaskProgress, ...]:
        """Every task in order."""
        return tuple(self.task(history) for history in self._histories)

    def task(self, history: TaskHistory) -> TaskProgress:
        """One task."""
        default = history.default_trial()
        default_point = None if default is None else history.point(default)
        choice = choose(history.points(), max_slowdown=self._config.max_slowdown)
        return TaskProgress(
            task_id=history.task.task_id,
            position=history.position,
            name=history.task.workload.name,
            weight=history.task.weight,
            n_trials=len(history.trials),
            failures=_failures(history.trials),
            default_latency_us=None if default_point is None else default_point.latency_us,
            default_energy_mj=None if default_point is None else default_point.energy_mj,
            best_latency_us=history.best_latency_us(),
            chosen_trial_id=None if choice is None else choice.point.trial_id,
            chosen_latency_us=None if choice is None else choice.point.latency_us,
            chosen_energy_mj=None if choice is None else choice.point.energy_mj,
            exhausted=history.exhausted,
        )


def _failures(trials: Iterable[Trial]) -> dict[str, int]:
    return dict(Counter(t.state.value for t in trials if t.state is not TrialState.OK))
