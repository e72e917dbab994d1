"""The loop: propose, build, measure, record, learn; then settle who won.

    defaults of all tasks                    (an artifact can be built from here on)
    repeat while the budget lasts:
        task     <- task_scheduler           one round of
        propose  <- strategy, cost models    stored before anything is built
        build, check, time, store            trial by trial; the next round is proposed meanwhile
        energy   <- energy_policy            chosen, stored, measured
    finalists of every task, interleaved with its default

Everything decided here depends on the recorded trials and the seed alone. A run that was
killed at any moment first finishes what was proposed, then goes on as if nothing
had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from schedules.space import DesignSpace
from schedules.task import Task
from search.config import SearchConfig
from search.database import Database
from search.default_trials import missing_defaults, run_defaults
from search.energy_policy import EnergyPolicy
from search.energy_rounds import EnergyRunner
from search.events import Events, RunFinished, RunStarted, ignore
from search.evolutionary import Evolutionary
from search.feature_cache import FeatureCache
from search.finalists import FinalRunner, is_current
from search.history import TaskHistory
from search.learner import Learner, ModelFactory, models_of
from search.libraries import Libraries, Stopped
from search.memory import RunMemory
from search.planner import Planner
from search.policies import make_policy
from search.ports import Builder, Runner
from search.progress import Progress
from search.random_search import RandomSearch
from search.rounds import Rounds
from search.run_lock import run_lock
from search.spending import Spending
from search.stopping import StopRequest
from search.tools import Tools
from search.trial_runner import TrialRunner

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
        self._memory = RunMemory(tasks, database)
        progress = Progress(self._memory.histories, config)
        self._tools = tools = Tools(
            runner=runner,
            database=database,
            libraries=Libraries(builder, stop, lambda: progress.is_late),
            progress=progress,
            spending=Spending(database),
            events=events,
        )
        features = FeatureCache(open_space)
        learner = Learner(self._memory.histories, features=features, factory=models)
        self._finals = FinalRunner(
            tools=tools, config=config, learner=learner, histories=self._memory.histories
        )
        self._rounds = Rounds(
            self._memory,
            tools=tools,
            trials=TrialRunner(self._memory.by_id, tools),
            energies=EnergyRunner(tools),
            planner=Planner(
                self._memory,
                config,
                strategy=RandomSearch() if config.strategy == "random" else Evolutionary(config),
                features=features,
                models=models,
                open_space=open_space,
                space_names=space_names,
                generator=lambda history, index: self._generator(history, index, _PROPOSE),
            ),
            learner=learner,
            policy=energy_policy,
            config=config,
            generator=lambda history, index: self._generator(history, index, _ENERGY),
        )

    def run(self) -> str:
        """Everything, from the first default to the last outcome; see :func:`tune`."""
        tools = self._tools
        tools.events(
            RunStarted(
                tasks=tools.progress.tasks(),
                totals=tools.progress.totals(),
                resumed=self._memory.n_proposed > 0,
                measures_energy=tools.runner.measures_energy,
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
            self._rounds.close()
            tools.spending.save(n_trials=tools.progress.n_trials_now, stopped_by=stopped_by)
        tools.events(
            RunFinished(
                stopped_by=stopped_by,
                tasks=tools.progress.tasks(),
                totals=tools.progress.totals(),
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
        self._rounds.close()
        self._tools.progress.lift_limit()
        self._settle()
        return stopped_by

    def _spend_budget(self) -> str:
        self._rounds.add(self._memory.open_rounds())
        if missing_defaults(self._memory):
            self._rounds.plan_first()
            self._rounds.finish_open()
            run_defaults(self._memory, self._rounds, self._tools.database)
        return self._rounds.run()

    def _settle(self) -> None:
        finals = self._tools.database.finals()
        for history in self._memory.histories:
            if history.default_trial() is None:  # time ran out before it was tried
                continue
            if not is_current(finals.get(history.task.task_id), history, self._config):
                self._finals.run(history)

    def _generator(self, history: TaskHistory, index: int, purpose: int) -> np.random.Generator:
        task_number = int(history.task.task_id, 16)
        return np.random.default_rng([self._config.seed, task_number, index, purpose])
