"""Takes the rounds of a session from their plan to their last energy.

    plan    [ 3 ][ 4 ][ 5 ][ 6 ]         planner's thread, build processes
    build      [   3   ][   5   ]        build processes
                    [   4   ][   6   ]
    measure  [ 2 ]      [ 3 ][ 4 ][ 5 ]  device, this thread

The oldest open round is measured; the next ones are planned and built meanwhile, as many as
:mod:`search.planner` may plan without knowing what they find.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from search.config import SearchConfig
from search.energy_policy import EnergyPolicy
from search.energy_rounds import EnergyRunner, plan_energy
from search.events import RoundStarted
from search.history import TaskHistory
from search.learner import Learner
from search.libraries import POLL_S
from search.memory import OpenRound, RunMemory
from search.planner import Plan, Planner
from search.stored import EnergyPlan, EnergyRecord
from search.tools import Tools
from search.trial_runner import TrialRunner


class Rounds:
    """The open rounds of one session.

    Args:
        memory: What is recorded; kept up to date.
        tools: Of the session.
        trials: Builds and measures.
        energies: Takes energy measurements.
        planner: Proposes.
        learner: Predicts energies, from everything measured so far.
        policy: Chooses energy measurements.
        config: Of the search.
        generator: Random numbers for the energy choice of a round of a task.
    """

    def __init__(
        self,
        memory: RunMemory,
        *,
        tools: Tools,
        trials: TrialRunner,
        energies: EnergyRunner,
        planner: Planner,
        learner: Learner,
        policy: EnergyPolicy,
        config: SearchConfig,
        generator: Callable[[TaskHistory, int], np.random.Generator],
    ) -> None:
        self._memory = memory
        self._tools = tools
        self._trials = trials
        self._energies = energies
        self._planner = planner
        self._learner = learner
        self._policy = policy
        self._config = config
        self._generator = generator
        self._open: deque[OpenRound] = deque()
        self._left: deque[EnergyRecord] | None = None  # energies of the oldest round, once chosen
        self._plan: Plan | None = None
        self._may_plan = True  # something was stored or finished since a plan was asked for

    def add(self, opened: Sequence[OpenRound]) -> None:
        """Take up stored rounds, in that order."""
        for one in opened:
            self._open.append(one)
            self._trials.add(one.waiting)

    def plan_first(self) -> None:
        """Begin to plan the first search round, which needs to know nothing; open all spaces."""
        if not self._memory.is_searching:
            self._plan = self._planner.start(())
        self._planner.open_ahead()

    def finish_open(self) -> None:
        """Finish every open round, and plan no other.

        Raises:
            Stopped: Asked to stop; whatever is unfinished stays recorded as such.
        """
        while self._open:
            self._step()

    def run(self) -> str:
        """Plan and finish rounds until the budget is spent.

        Returns:
            ``budget``, or ``exhausted`` if no task has anything left to try.

        Raises:
            Stopped: See :meth:`finish_open`.
        """
        while True:
            if self._plan is None and self._may_plan:
                self._may_plan = False
                self._plan = self._planner.start(self._open)
            if self._plan is not None and self._plan.proposals.done():
                self._store(self._plan)
            elif self._open and self._can_step():
                self._step()
            elif self._plan is not None:
                self._wait()
            else:
                spent = self._memory.n_proposed >= self._config.n_trials
                return "budget" if spent else "exhausted"

    def _can_step(self) -> bool:
        """The oldest round can be worked on without waiting for a build, or nothing else can."""
        front = self._trials.front
        if self._plan is None or front is None or not self._open[0].holds(front.trial):
            return True
        return front.build.done()

    def _wait(self) -> None:
        """For the plan or the next build, whichever is first."""
        assert self._plan is not None
        awaited: list[Future[Any]] = [self._plan.proposals]
        if self._trials.front is not None:
            awaited.append(self._trials.front.build)
        self._tools.libraries.check_stop()
        with self._tools.spending.time("build_s" if len(awaited) > 1 else "model_s"):
            concurrent.futures.wait(
                awaited,
                timeout=POLL_S,
                return_when=concurrent.futures.FIRST_COMPLETED,
            )

    def _store(self, plan: Plan) -> None:
        self._plan, self._may_plan = None, True
        self._tools.libraries.check_stop()
        n_left = self._config.n_trials - self._memory.n_proposed
        if n_left <= 0:  # defaults that had to be tried again took the rest
            return
        history, proposals = plan.history, plan.proposals.result()[:n_left]
        index = self._memory.next_round(history)
        history.reserve(proposal.candidate for proposal in proposals)
        trials = self._tools.database.propose(history.task.task_id, index, proposals)
        self._memory.note_round(history, index, len(trials))
        self._tools.events(
            RoundStarted(
                task=self._tools.progress.task(history),
                round_index=index,
                n_proposed=len(trials),
                totals=self._tools.progress.totals(),
            )
        )
        self.add([OpenRound(history=history, round_index=index, waiting=tuple(trials))])

    def _step(self) -> None:
        """One trial of the oldest round; after the last one, one of its energies.

        Energies take seconds: a plan that is done meanwhile shall not wait for the last.
        """
        one, front = self._open[0], self._trials.front
        if front is not None and one.holds(front.trial):
            self._tools.libraries.check_stop()
            self._trials.finish_front()
            return
        if self._left is None:
            self._left = deque(self._chosen_energies(one))
        if self._left:
            self._energies.run(one.history, self._left[0])
            self._left.popleft()
            return
        self._left, self._may_plan = None, True
        self._open.popleft()
        self._tools.spending.save(n_trials=self._tools.progress.n_trials_now)

    def _chosen_energies(self, one: OpenRound) -> list[EnergyRecord]:
        """What is to be measured for a round: chosen now, unless an earlier session did."""
        history, index = one.history, one.round_index
        if one.energy_planned:
            return self._memory.waiting_energies(one)
        plans: list[EnergyPlan] = []
        if self._tools.runner.measures_energy:
            with self._tools.spending.time("model_s"):
                plans = plan_energy(
                    history,
                    learner=self._learner,
                    policy=self._policy,
                    config=self._config,
                    round_index=index,
                    rng=self._generator(history, index),
                )
        return self._tools.database.plan_energy(history.task.task_id, index, plans)

    def close(self) -> None:
        """Drop builds and plans that are under way; what is recorded stays."""
        self._trials.drop()
        self._planner.close()
