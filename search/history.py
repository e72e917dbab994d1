"""What is known of a task: its finished trials with their energies. Strategies only read it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from schedules.candidate import Candidate
from schedules.task import Task
from search.objective import Point
from search.stored import EnergyRecord
from search.trial import EnergyMeasurement, Trial, TrialState

_TELLS_OF_TWINS = (TrialState.OK, TrialState.WRONG_RESULT)
"""States that belong to the binary. A death may have been the device's own."""


class TaskHistory:
    """Finished trials of one task in the order of proposal, and energies by trial.

    Filled by the loop from the database and then trial by trial; equal contents give
    equal answers, so a resumed run continues exactly.
    """

    def __init__(self, task: Task, *, position: int) -> None:
        self.task = task
        self.position = position
        self.trials: list[Trial] = []
        self.energy_records: list[EnergyRecord] = []
        self.exhausted = False
        self._energies: dict[int, EnergyMeasurement] = {}
        self._tried: set[str] = set()
        self._first_of_binary: dict[str, Trial] = {}

    def without(self, rounds: Collection[tuple[str, int]]) -> TaskHistory:
        """A copy that knows nothing of what some rounds found; their candidates count as tried.

        Args:
            rounds: Task and round index of each round to leave out.
        """
        copy = TaskHistory(self.task, position=self.position)
        copy.exhausted = self.exhausted
        copy._tried = set(self._tried)
        for trial in self.trials:
            if (trial.task_id, trial.round_index) not in rounds:
                copy.add(trial)
        for record in self.energy_records:
            if (self.task.task_id, record.round_index) not in rounds:
                copy.add_energy(record)
        return copy

    def reserve(self, candidates: Iterable[Candidate]) -> None:
        """Remember candidates that must not be proposed again."""
        self._tried.update(candidate.candidate_id for candidate in candidates)

    def add(self, trial: Trial) -> None:
        """Append a finished trial."""
        self.trials.append(trial)
        self._tried.add(trial.candidate.candidate_id)
        if trial.build is not None and trial.same_as is None and trial.state in _TELLS_OF_TWINS:
            self._first_of_binary.setdefault(trial.build.binary_id, trial)

    def add_energy(self, record: EnergyRecord) -> None:
        """Append a taken measurement; an unusable one never replaces a usable one.

        Raises:
            ValueError: It is only planned.
        """
        if record.measurement is None:
            raise ValueError(f"energy {record.energy_id} of trial {record.trial_id} is not taken")
        self.energy_records.append(record)
        if record.measurement.verdict.usable or record.trial_id not in self._energies:
            self._energies[record.trial_id] = record.measurement

    def was_tried(self, candidate_id: str) -> bool:
        """True if the candidate was ever proposed for this task."""
        return candidate_id in self._tried

    @property
    def n_tried(self) -> int:
        """Candidates that were ever proposed for this task."""
        return len(self._tried)

    def twin_of(self, binary_id: str) -> Trial | None:
        """The trial that already ran this very binary and whose outcome holds for it."""
        return self._first_of_binary.get(binary_id)

    def ok_trials(self) -> list[Trial]:
        """Trials whose latency may be used."""
        return [trial for trial in self.trials if trial.state is TrialState.OK]

    def energy_of(self, trial: Trial) -> EnergyMeasurement | None:
        """Energy of a trial or of the trial it is identical to, usable or not."""
        return self._energies.get(trial.same_as or trial.trial_id)

    def energy_by_id(self, trial_id: int) -> EnergyMeasurement | None:
        """Energy of the trial with this id, see :meth:`energy_of`."""
        return next((self.energy_of(t) for t in self.trials if t.trial_id == trial_id), None)

    def point(self, trial: Trial) -> Point:
        """An ``OK`` trial as a point of the objective.

        Raises:
            ValueError: It has no latency.
        """
        if trial.latency is None:
            raise ValueError(f"trial {trial.trial_id} has no latency")
        latency_us, energy = trial.latency.latency_us, self.energy_of(trial)
        if energy is None or not energy.verdict.usable:
            return Point(trial_id=trial.trial_id, latency_us=latency_us)
        return Point(
            trial_id=trial.trial_id,
            latency_us=latency_us,
            energy_mj=energy.steady_mj,
            sustained_us=energy.lasting_us(latency_us),
        )

    def points(self) -> list[Point]:
        """Every ``OK`` trial as a point, in order."""
        return [self.point(trial) for trial in self.ok_trials()]

    def default_trial(self) -> Trial | None:
        """The default schedule's trial that ran, ``None`` if none did yet."""
        for trial in self.trials:
            if trial.origin == "default" and trial.state is TrialState.OK:
                return trial
        return None

    def best_latency_us(self) -> float | None:
        """Least latency so far."""
        return min((point.latency_us for point in self.points()), default=None)
