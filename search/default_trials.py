"""The first trials of a run: every task's default schedule, which must run."""

from __future__ import annotations

from collections.abc import Sequence

from schedules.candidate import Candidate
from search.database import Database
from search.errors import DefaultFailed
from search.history import TaskHistory
from search.memory import OpenRound, RunMemory
from search.rounds import Rounds
from search.stored import Proposal
from search.trial import Trial, TrialState

DEFAULT_CANDIDATE = Candidate(space="default", decisions="{}")
"""The legal schedule that every task has from the first second."""

DEFAULT_ATTEMPTS = 3
"""Times a default is tried in a session: a noisy neighbour must not end a run."""


def missing_defaults(memory: RunMemory) -> list[TaskHistory]:
    """Tasks whose default has not run yet."""
    return [history for history in memory.histories if history.default_trial() is None]


def run_defaults(memory: RunMemory, rounds: Rounds, database: Database) -> None:
    """Give every task a default that ran, so that an artifact can be built from now on.

    Raises:
        DefaultFailed: One does not run.
        Stopped: Asked to stop.
    """
    for _ in range(DEFAULT_ATTEMPTS):
        missing = missing_defaults(memory)
        if not missing:
            return
        rounds.add(_proposed(missing, memory, database))
        rounds.finish_open()
        if not any(_may_pass_later(history) for history in missing):
            break
    _require(memory)


def _proposed(
    histories: Sequence[TaskHistory], memory: RunMemory, database: Database
) -> list[OpenRound]:
    proposal = Proposal(candidate=DEFAULT_CANDIDATE, origin="default")
    indices = [memory.next_round(history) for history in histories]
    trials = database.propose_rounds(
        (history.task.task_id, index, [proposal])
        for history, index in zip(histories, indices, strict=True)
    )
    opened = []
    for history, index, trial in zip(histories, indices, trials, strict=True):
        memory.note_round(history, index, 1, is_default=True)
        opened.append(OpenRound(history=history, round_index=index, waiting=(trial,)))
    return opened


def _require(memory: RunMemory) -> None:
    failed = missing_defaults(memory)
    if not failed:
        return
    causes = "\n".join(f"  {_failure_text(history)}" for history in failed)
    raise DefaultFailed(
        f"the default schedule of {len(failed)} of {len(memory.histories)} tasks did "
        f"not run, so nothing could be compared or shipped:\n{causes}\n"
        "Mend the cause (effcompile doctor checks device and compiler), then run the same "
        "command again."
    )


def _last_default(history: TaskHistory) -> Trial:
    return next(trial for trial in reversed(history.trials) if trial.origin == "default")


def _may_pass_later(history: TaskHistory) -> bool:
    """True if the default's failure may be the device's, not its own."""
    return _last_default(history).state in (TrialState.RUN_ERROR, TrialState.RUN_TIMEOUT)


def _failure_text(history: TaskHistory) -> str:
    trial = _last_default(history)
    cause = trial.failure.message.strip() if trial.failure else trial.state.value
    log = f" (log: {trial.failure.log_path})" if trial.failure and trial.failure.log_path else ""
    return f"{history.task.workload.name}: {trial.state.value}: {cause}{log}"
