"""A run as its database remembers it: histories, and what is still to be done."""

from __future__ import annotations

from collections.abc import Sequence

from schedules.task import Task
from search.database import Database
from search.history import TaskHistory
from search.stored import EnergyRecord, Round
from search.trial import Trial, TrialState


class RunMemory:
    """Everything that was recorded when this session began, kept current by the loop.

    Attributes:
        histories: One per task, in order.
        waiting: Trials proposed but not finished, in order.
        rounds: Every round, in order.
    """

    def __init__(self, tasks: Sequence[Task], database: Database) -> None:
        self.database = database
        self.histories = [TaskHistory(task, position=i) for i, task in enumerate(tasks)]
        self.by_id = {history.task.task_id: history for history in self.histories}
        self.waiting: list[Trial] = []
        self.rounds: list[Round] = database.rounds()
        self.n_proposed = 0
        self._load()

    def _load(self) -> None:
        owner: dict[int, TaskHistory] = {}
        for trial in self.database.trials():
            self.n_proposed += 1
            history = self.by_id.get(trial.task_id)
            if history is None:  # its task's row was damaged; the trial itself stays recorded
                continue
            owner[trial.trial_id] = history
            if trial.state is TrialState.PROPOSED:
                history.reserve([trial.candidate])
                self.waiting.append(trial)
            else:
                history.add(trial)
        for record in self.database.energies():
            if record.phase == "search" and record.measurement and record.trial_id in owner:
                owner[record.trial_id].add_energy(record)
        for one in self.rounds:
            if one.n_proposed == 0 and one.task_id in self.by_id:
                self.by_id[one.task_id].exhausted = True

    def note_round(self, history: TaskHistory, round_index: int, n_proposed: int) -> None:
        """Remember a round that was just stored."""
        self.n_proposed += n_proposed
        history.exhausted = history.exhausted or n_proposed == 0
        self.rounds.append(
            Round(
                task_id=history.task.task_id,
                round_index=round_index,
                n_proposed=n_proposed,
                energy_planned=False,
            )
        )

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
            if one.round_index > 0:
                counts[one.task_id] = counts.get(one.task_id, 0) + 1
        return counts

    def unplanned_rounds(self) -> list[tuple[TaskHistory, int]]:
        """Rounds whose energy measurements were not chosen yet, read afresh."""
        self.rounds = self.database.rounds()
        return [
            (self.by_id[one.task_id], one.round_index)
            for one in self.rounds
            if one.n_proposed > 0 and not one.energy_planned and one.task_id in self.by_id
        ]

    def waiting_energies(self) -> list[tuple[TaskHistory, EnergyRecord]]:
        """Energy measurements that were planned and not taken, read afresh."""
        owner = {trial.trial_id: history for history in self.histories for trial in history.trials}
        return [
            (owner[record.trial_id], record)
            for record in self.database.energies()
            if record.measurement is None and record.trial_id in owner
        ]
