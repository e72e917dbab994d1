"""A run as its database remembers it: histories, and what is still to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from schedules.task import Task
from search.database import Database
from search.history import TaskHistory
from search.stored import EnergyRecord, Round
from search.trial import Trial, TrialState

RoundKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """A stored round that is not finished.

    Attributes:
        history: Its task's.
        round_index: Which round of the task.
        waiting: Its trials that are not finished, in order.
        energy_planned: True once the trials whose energy is measured were chosen.
    """

    history: TaskHistory
    round_index: int
    waiting: tuple[Trial, ...]
    energy_planned: bool = False

    @property
    def key(self) -> RoundKey:
        """Task and index."""
        return self.history.task.task_id, self.round_index

    def holds(self, trial: Trial) -> bool:
        """True for the trials of this round."""
        return (trial.task_id, trial.round_index) == self.key


class RunMemory:
    """Everything that was recorded when this session began, kept current by the loop.

    Attributes:
        histories: One per task, in order.
        rounds: Every round, in the order they were stored.
        n_proposed: Trials, finished or not.
    """

    def __init__(self, tasks: Sequence[Task], database: Database) -> None:
        self.database = database
        self.histories = [TaskHistory(task, position=i) for i, task in enumerate(tasks)]
        self.by_id = {history.task.task_id: history for history in self.histories}
        self.rounds: list[Round] = database.rounds()
        self.n_proposed = 0
        self._waiting: dict[RoundKey, list[Trial]] = {}
        self._defaults: set[RoundKey] = set()
        self._load()

    def _load(self) -> None:
        owner: dict[int, TaskHistory] = {}
        for trial in self.database.trials():
            self.n_proposed += 1
            history = self.by_id.get(trial.task_id)
            if history is None:  # its task's row was damaged; the trial itself stays recorded
                continue
            key = (trial.task_id, trial.round_index)
            owner[trial.trial_id] = history
            if trial.origin == "default":
                self._defaults.add(key)
            if trial.state is TrialState.PROPOSED:
                history.reserve([trial.candidate])
                self._waiting.setdefault(key, []).append(trial)
            else:
                history.add(trial)
        for record in self.database.energies():
            if record.phase == "search" and record.measurement and record.trial_id in owner:
                owner[record.trial_id].add_energy(record)
        for one in self.rounds:
            if one.n_proposed == 0 and one.task_id in self.by_id:
                self.by_id[one.task_id].exhausted = True

    def open_rounds(self) -> list[OpenRound]:
        """What earlier sessions left unfinished: trials, energies to choose or to measure."""
        records = {(one.task_id, one.round_index): one for one in self.rounds}
        planned = {
            (history.task.task_id, record.round_index)
            for history in self.histories
            for record in self._waiting_energies(history)
        }
        # A damaged round is gone from the list, its trials are not.
        keys = list(dict.fromkeys([*records, *self._waiting]))
        return [
            OpenRound(
                history=self.by_id[key[0]],
                round_index=key[1],
                waiting=tuple(self._waiting.get(key, [])),
                energy_planned=key not in records or records[key].energy_planned,
            )
            for key in keys
            if key[0] in self.by_id
            and (key in self._waiting or key in planned or _lacks_plan(records.get(key)))
        ]

    def waiting_energies(self, one: OpenRound) -> list[EnergyRecord]:
        """Energy measurements that were planned for a round and not taken, read afresh."""
        return [
            record
            for record in self._waiting_energies(one.history)
            if record.round_index == one.round_index
        ]

    def _waiting_energies(self, history: TaskHistory) -> list[EnergyRecord]:
        own = {trial.trial_id for trial in history.trials}
        return [
            record
            for record in self.database.energies()
            if record.measurement is None and record.phase == "search" and record.trial_id in own
        ]

    def note_round(
        self, history: TaskHistory, round_index: int, n_proposed: int, *, is_default: bool = False
    ) -> None:
        """Remember a round that was just stored."""
        self.n_proposed += n_proposed
        history.exhausted = history.exhausted or n_proposed == 0
        task_id = history.task.task_id
        if is_default:
            self._defaults.add((task_id, round_index))
        self.rounds.append(
            Round(
                task_id=task_id,
                round_index=round_index,
                n_proposed=n_proposed,
                energy_planned=False,
            )
        )

    def newest_search(self, n: int) -> list[RoundKey]:
        """The rounds stored last, at most ``n``, back to one that holds a default."""
        keys = ((one.task_id, one.round_index) for one in reversed(self.rounds))
        return list(islice(takewhile(lambda key: key not in self._defaults, keys), n))

    @property
    def is_searching(self) -> bool:
        """True once a round beside those of the defaults was stored."""
        return any((one.task_id, one.round_index) not in self._defaults for one in self.rounds)

    def known_before_newest(self, n: int) -> list[TaskHistory]:
        """Copies of the histories without what the ``n`` search rounds stored last have found.

        Before there is any such round they know nothing, not even the defaults. Candidates that
        were proposed still count as tried.
        """
        left_out = self.newest_search(n) if self.is_searching else self._defaults
        return [history.without(left_out) for history in self.histories]

    def next_round(self, history: TaskHistory) -> int:
        """Index of a task's next round."""
        recorded = [one.round_index for one in self.rounds if one.task_id == history.task.task_id]
        # A damaged round is gone from the list, its trials are not.
        recorded += [trial.round_index for trial in history.trials]
        return max(recorded, default=-1) + 1

    def n_search_rounds(self) -> dict[str, int]:
        """Rounds by task id, those of the default not counted."""
        counts: dict[str, int] = {}
        for one in self.rounds:
            if (one.task_id, one.round_index) not in self._defaults:
                counts[one.task_id] = counts.get(one.task_id, 0) + 1
        return counts


def _lacks_plan(one: Round | None) -> bool:
    return one is not None and one.n_proposed > 0 and not one.energy_planned
