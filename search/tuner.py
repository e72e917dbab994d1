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
from dataclasses import dataclass
from functools import partial

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
    given = _Given(
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
    with run_lock(database.path.parent):
        return _Loop(tasks, given).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What :func:`tune` was given, with every default filled in."""

    open_space: Callable[[Task, str], DesignSpace]
    space_names: Callable[[Task], Sequence[str]]
    builder: Builder
    runner: Runner
    database: Database
    config: SearchConfig
    events: Events
    models: ModelFactory
    energy_policy: EnergyPolicy
    stop: StopRequest


class _Loop:
    """One session of tuning."""

    def __init__(self, tasks: Sequence[Task], given: _Given) -> None:
        given.database.store_tasks(tasks)
        self._config = config = given.config
        self._memory = memory = RunMemory(tasks, given.database)
        self._tools = tools = self._gather_tools(given)
        features = FeatureCache(given.open_space)
        learner = Learner(memory.histories, features=features, factory=given.models)
        self._finals = FinalRunner(
            tools=tools, config=config, learner=learner, histories=memory.histories
        )
        planner = Planner(
            memory,
            config,
            strategy=RandomSearch() if config.strategy == "random" else Evolutionary(config),
            features=features,
            models=given.models,
            open_space=given.open_space,
            space_names=given.space_names,
            generator=partial(self._generator, purpose=_PROPOSE),
        )
        self._rounds = Rounds(
            memory,
            tools=tools,
            trials=TrialRunner(memory.by_id, tools),
            energies=EnergyRunner(tools),
            planner=planner,
            learner=learner,
            policy=given.energy_policy,
            config=config,
            generator=partial(self._generator, purpose=_ENERGY),
        )

    def _gather_tools(self, given: _Given) -> Tools:
        progress = Progress(self._memory.histories, given.config)
        return Tools(
            runner=given.runner,
            database=given.database,
            libraries=Libraries(given.builder, given.stop, lambda: progress.is_late),
            progress=progress,
            spending=Spending(given.database),
            events=given.events,
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
