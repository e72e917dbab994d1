"""The loop: propose, build, measure, record, learn; then settle who won.

    defaults of all tasks                    (an artifact can be built from here on)
    repeat while the budget lasts:
        task     <- task_scheduler           one round of
        propose  <- strategy, cost models    stored before anything is built
        build, check, time, store            trial by trial
        energy   <- energy_policy            chosen, stored, measured
    finalists of every task, interleaved with its default

Everything decided here depends on the recorded trials and the seed alone. A run that was
killed at any moment first finishes what was proposed, then goes on as if nothing
had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from schedules.task import Task
from search.budget import round_size
from search.config import SearchConfig
from search.database import Database
from search.energy_policy import EnergyPolicy
from search.energy_rounds import EnergyRunner, plan_energy
from search.errors import DefaultFailed
from search.events import Events, RoundStarted, RunFinished, RunStarted, ignore
from search.evolutionary import Evolutionary
from search.finalists import FinalRunner, is_current
from search.history import TaskHistory
from search.learner import Learner, ModelFactory, models_of
from search.libraries import Libraries, Stopped
from search.memory import RunMemory
from search.policies import make_policy
from search.ports import Builder, Runner
from search.progress import Progress
from search.random_search import RandomSearch
from search.run_lock import run_lock
from search.space_shares import split_round
from search.spending import Spending
from search.stopping import StopRequest
from search.stored import Proposal
from search.strategy import Strategy
from search.task_scheduler import next_task
from search.trial import Trial, TrialState
from search.trial_runner import TrialRunner

DEFAULT_CANDIDATE = Candidate(space="default", decisions="{}")
"""The legal schedule that every task has from the first second."""

DEFAULT_ATTEMPTS = 3
"""Times a default is tried in a session: a noisy neighbour must not end a run."""

_PROPOSE, _ENERGY = 0, 1


def tune(
    tasks: Sequence[Task],
    *,
    spaces: Callable[[Task, str], DesignSpace],
    space_names: Callable[[Task], Sequence[str]],
    builder: Builder,
    runner: Runner,
    database: Database,
    config: SearchConfig,
    events: Events = ignore,
    models: ModelFactory | None = None,
    energy_policy: EnergyPolicy | None = None,
    stop: StopRequest | None = None,
) -> str:
    """Search until the budget is spent, then settle every task; continues what is recorded.

    The caller has claimed the database for this run's identity, and closes the ports.

    Args:
        tasks: Distinct workloads; the same ones in the same order at every start.
        spaces: Opens a design space of a task by name; asked often, so it should keep them.
        space_names: Spaces to search for a task, the preferred first.
        builder: Turns candidates into libraries.
        runner: Checks and measures them.
        database: Where everything is recorded, and read from at the start.
        config: How trials are spent.
        events: Called after every step.
        models: Makes cost models; those that ``config`` names unless given.
        energy_policy: Chooses energy measurements; the one that ``config`` names unless given.
        stop: Lets somebody stop the loop between trials.

    Returns:
        Why it ended: ``budget``, ``exhausted``, ``seconds`` or ``request``. Only after a
        request are tasks left without outcome; see :mod:`search.winners`.

    Raises:
        DatabaseLocked: Another tuner works in this folder.
        DefaultFailed: A default schedule does not run.
        DeviceLost: Nothing runs any more.
    """
    with run_lock(database.path.parent):
        loop = _Loop(
            tasks,
            open_space=spaces,
            space_names=space_names,
            builder=builder,
            runner=runner,
            database=database,
            config=config,
            events=events,
            models=models or models_of(config),
            energy_policy=energy_policy or make_policy(config),
            stop=stop or StopRequest(),
        )
        return loop.run()


class _Loop:
    """One session of tuning."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        open_space: Callable[[Task, str], DesignSpace],
        space_names: Callable[[Task], Sequence[str]],
        builder: Builder,
        runner: Runner,
        database: Database,
        config: SearchConfig,
        events: Events,
        models: ModelFactory,
        energy_policy: EnergyPolicy,
        stop: StopRequest,
    ) -> None:
        database.store_tasks(tasks)
        self._config = config
        self._events = events
        self._database = database
        self._runner = runner
        self._policy = energy_policy
        self._space_names = space_names
        self._open_space = open_space
        self._memory = RunMemory(tasks, database)
        self._progress = Progress(self._memory.histories, config)
        self._spending = Spending(database)
        self._libraries = Libraries(builder, stop, lambda: self._progress.is_late)
        self._learner = Learner(self._memory.histories, space_of=open_space, factory=models)
        self._strategy: Strategy = (
            RandomSearch() if config.strategy == "random" else Evolutionary(config)
        )
        self._trials = TrialRunner(
            histories=self._memory.by_id,
            runner=runner,
            database=database,
            libraries=self._libraries,
            progress=self._progress,
            spending=self._spending,
            events=events,
        )
        self._energies = EnergyRunner(
            runner=runner,
            database=database,
            libraries=self._libraries,
            progress=self._progress,
            spending=self._spending,
            events=events,
        )
        self._finals = FinalRunner(
            runner=runner,
            database=database,
            libraries=self._libraries,
            progress=self._progress,
            spending=self._spending,
            events=events,
            config=config,
            learner=self._learner,
            histories=self._memory.histories,
        )

    def run(self) -> str:
        """Everything, from the first default to the last outcome; see :func:`tune`."""
        self._events(
            RunStarted(
                tasks=self._progress.tasks(),
                totals=self._progress.totals(),
                resumed=self._memory.n_proposed > 0,
                measures_energy=self._runner.measures_energy,
            )
        )
        stopped_by = "error"
        try:
            stopped_by = self._search()
        except Stopped as request:
            stopped_by = str(request)
        except KeyboardInterrupt:
            stopped_by = "request"
            raise
        finally:
            self._spending.save(n_trials=self._progress.n_trials_now, stopped_by=stopped_by)
        self._events(
            RunFinished(
                stopped_by=stopped_by,
                tasks=self._progress.tasks(),
                totals=self._progress.totals(),
            )
        )
        return stopped_by

    def _search(self) -> str:
        try:
            stopped_by = self._spend_budget()
        except Stopped as request:
            if str(request) != "seconds":
                raise
            stopped_by = "seconds"
        self._progress.lift_limit()
        self._settle()
        return stopped_by

    def _spend_budget(self) -> str:
        self._finish_open_work()
        self._run_defaults()
        while self._memory.n_proposed < self._config.n_trials:
            history = next_task(
                self._memory.histories,
                self._memory.n_search_rounds(),
                max_slowdown=self._config.max_slowdown,
            )
            if history is None:
                return "exhausted"
            self._libraries.check_stop()
            self._run_round(history)
        return "budget"

    def _finish_open_work(self) -> None:
        waiting, self._memory.waiting = self._memory.waiting, []
        self._trials.run(waiting)
        self._measure_energies()

    def _run_defaults(self) -> None:
        """Give every task a default that ran, so that an artifact can be built from now on."""
        for _ in range(DEFAULT_ATTEMPTS):
            missing = [one for one in self._memory.histories if one.default_trial() is None]
            if not missing:
                break
            self._try_defaults(missing)
            if not any(_may_be_luck(one) for one in missing):
                break
        self._require_defaults()
        self._measure_energies()

    def _try_defaults(self, histories: Sequence[TaskHistory]) -> None:
        proposal = Proposal(candidate=DEFAULT_CANDIDATE, origin="default")
        rounds = [(one, self._memory.next_round(one)) for one in histories]
        trials = self._database.propose_rounds(
            [(one.task.task_id, index, [proposal]) for one, index in rounds]
        )
        for history, index in rounds:
            self._memory.note_round(history, index, 1)
        self._trials.run(trials)

    def _require_defaults(self) -> None:
        failed = [one for one in self._memory.histories if one.default_trial() is None]
        if not failed:
            return
        causes = "\n".join(f"  {_failure_text(history)}" for history in failed)
        raise DefaultFailed(
            f"the default schedule of {len(failed)} of {len(self._memory.histories)} tasks did "
            f"not run, so nothing could be compared or shipped:\n{causes}\n"
            "Mend the cause (effcompile doctor checks device and compiler), then run the same "
            "command again."
        )

    def _run_round(self, history: TaskHistory) -> None:
        index = self._memory.next_round(history)
        n_left = self._config.n_trials - self._memory.n_proposed
        n_wanted = min(n_left, round_size(self._config, n_tasks=len(self._memory.histories)))
        with self._spending.time("model_s"):
            proposals = self._propose(history, n_wanted, self._generator(history, index, _PROPOSE))
        trials = self._database.propose(history.task.task_id, index, proposals)
        self._memory.note_round(history, index, len(trials))
        self._events(
            RoundStarted(
                task=self._progress.task(history),
                round_index=index,
                n_proposed=len(trials),
                totals=self._progress.totals(),
            )
        )
        self._trials.run(trials)
        self._measure_energies()
        self._spending.save(n_trials=self._progress.n_trials_now)

    def _propose(self, history: TaskHistory, n: int, rng: np.random.Generator) -> list[Proposal]:
        """Candidates from every space of the task; a space that is short passes its share on."""
        names = list(self._space_names(history.task))
        found: list[Proposal] = []
        while names and len(found) < n:
            shares = split_round(n - len(found), names, history)
            for name, share in shares.items():
                if share == 0:
                    continue
                space = self._open_space(history.task, name)
                got = self._strategy.propose(
                    history, space, share, ranker=self._learner.ranker(history), rng=rng
                )
                history.reserve(proposal.candidate for proposal in got)
                found += got
                if len(got) < share:
                    names.remove(name)
        return found

    def _measure_energies(self) -> None:
        """Choose and measure energies of every round that has none chosen, then the open ones."""
        for history, index in self._memory.unplanned_rounds():
            plans = []
            if self._runner.measures_energy:
                with self._spending.time("model_s"):
                    plans = plan_energy(
                        history,
                        learner=self._learner,
                        policy=self._policy,
                        config=self._config,
                        round_index=index,
                        rng=self._generator(history, index, _ENERGY),
                    )
            self._database.plan_energy(history.task.task_id, index, plans)
        for history, record in self._memory.waiting_energies():
            self._energies.run(history, [record])

    def _settle(self) -> None:
        finals = self._database.finals()
        for history in self._memory.histories:
            if history.default_trial() is None:  # time ran out before it was tried
                continue
            if not is_current(finals.get(history.task.task_id), history, self._config):
                self._finals.run(history)

    def _generator(self, history: TaskHistory, index: int, purpose: int) -> np.random.Generator:
        task_number = int(history.task.task_id, 16)
        return np.random.default_rng([self._config.seed, task_number, index, purpose])


def _last_default(history: TaskHistory) -> Trial:
    return next(trial for trial in reversed(history.trials) if trial.origin == "default")


def _may_be_luck(history: TaskHistory) -> bool:
    """True if the default's failure may be the device's or a neighbour's, not its own."""
    return _last_default(history).state in (
        TrialState.INVALID_MEASUREMENT,
        TrialState.RUN_ERROR,
        TrialState.RUN_TIMEOUT,
    )


def _failure_text(history: TaskHistory) -> str:
    trial = _last_default(history)
    cause = trial.failure.message.strip() if trial.failure else trial.state.value
    log = f" (log: {trial.failure.log_path})" if trial.failure and trial.failure.log_path else ""
    return f"{history.task.workload.name}: {trial.state.value}: {cause}{log}"
