"""Proposes the next round while those before it are built and measured.

    tasks that take turns               A   B   C   D |  E        planned without the results
    planned, built, measured            done | under way          of B, C and D
    one task                            A   A |  A                without those of the last A

What a round may be planned from is decided by the record alone: everything but the results
of the rounds stored last. These are up to ``ROUNDS_AHEAD``, as long as they are of other tasks; a
task misses at most one of its own. A run that was killed and continued therefore plans the
same, however far the last rounds had come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from schedules.space import DesignSpace
from schedules.task import Task
from search.budget import round_size
from search.config import SearchConfig
from search.feature_cache import FeatureCache
from search.history import TaskHistory
from search.learner import Learner, ModelFactory
from search.memory import OpenRound, RunMemory
from search.space_shares import split_round
from search.stored import Proposal
from search.strategy import Strategy
from search.task_scheduler import cost_share, next_task

ROUNDS_AHEAD = 3
"""Rounds of other tasks that are built and measured while the next one is planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A round that is being proposed.

    Attributes:
        history: Whose round.
        proposals: The candidates, once they are found.
    """

    history: TaskHistory
    proposals: Future[list[Proposal]]


class Planner:
    """Chooses tasks and proposes their rounds, one at a time, in a thread of its own.

    Args:
        memory: What is recorded; read when a plan is started.
        config: Budget and seed.
        strategy: Proposes.
        features: Shared with whoever else asks models.
        models: Makes the cost models.
        open_space: Opens a design space of a task by name.
        space_names: Spaces of a task, the preferred first.
        generator: Random numbers of the n-th search round of a task.
    """

    def __init__(
        self,
        memory: RunMemory,
        config: SearchConfig,
        *,
        strategy: Strategy,
        features: FeatureCache,
        models: ModelFactory,
        open_space: Callable[[Task, str], DesignSpace],
        space_names: Callable[[Task], Sequence[str]],
        generator: Callable[[TaskHistory, int], np.random.Generator],
    ) -> None:
        self._memory = memory
        self._config = config
        self._strategy = strategy
        self._features = features
        self._models = models
        self._open_space = open_space
        self._space_names = space_names
        self._generator = generator
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plan")
        self._openings: list[Future[None]] = []

    def start(self, unfinished: Collection[OpenRound]) -> Plan | None:
        """Begin to plan the round after the one stored last.

        The first round of all may be planned before anything is stored.

        Args:
            unfinished: Rounds of which trials or energies are still to come.

        Returns:
            ``None`` if there is no round to come, or none before more of these are finished.
        """
        for n_unknown in range(ROUNDS_AHEAD, 0, -1):
            newest = self._memory.newest_search(n_unknown)
            if any(one.key not in newest for one in unfinished):
                return None
            known = self._memory.known_before_newest(n_unknown)
            chosen = self._next_task(known)
            if chosen is None:
                return None
            if n_unknown == 1 or chosen.task.task_id not in {task_id for task_id, _ in newest}:
                return self._started(chosen, known)
        return None

    def open_ahead(self) -> None:
        """Open every task's spaces, up to seconds of work for each, until the next plan starts."""
        self._openings = [
            self._thread.submit(self._open, history.task) for history in self._memory.histories
        ]

    def _open(self, task: Task) -> None:
        for name in self._space_names(task):
            # None is drawn, but spaces that are enumerated are now.
            self._open_space(task, name).sample(0, np.random.default_rng(0))

    def _next_task(self, known: Sequence[TaskHistory]) -> TaskHistory | None:
        if self._config.n_trials <= max(self._memory.n_proposed, len(known)):
            return None
        return next_task(
            known,
            self._memory.n_search_rounds(),
            max_slowdown=self._config.max_slowdown,
            even=self._is_even,
        )

    @property
    def _is_even(self) -> bool:
        return self._config.task_order == "even"

    def _started(self, chosen: TaskHistory, known: Sequence[TaskHistory]) -> Plan:
        # How often defaults must be tried shows only later: what is too much is not stored.
        n_spent = self._memory.n_proposed if self._memory.is_searching else len(known)
        share = 1.0 if self._is_even else cost_share(chosen, known)
        n_wanted = min(
            self._config.n_trials - n_spent,
            round_size(self._config, n_tasks=len(known), cost_share=share),
        )
        for one in self._openings:
            one.cancel()
        rng = self._generator(chosen, self._memory.n_search_rounds().get(chosen.task.task_id, 0))
        learner = Learner(known, features=self._features, factory=self._models)
        return Plan(
            history=self._memory.by_id[chosen.task.task_id],
            proposals=self._thread.submit(self._propose, chosen, learner, n_wanted, rng),
        )

    def _propose(
        self, history: TaskHistory, learner: Learner, n: int, rng: np.random.Generator
    ) -> list[Proposal]:
        """Candidates from every space of the task; a space that is short passes its share on."""
        names = list(self._space_names(history.task))
        found: list[Proposal] = []
        while names and len(found) < n:
            cycles = self._least_cycles(history, names)
            shares = split_round(n - len(found), names, history, cycles)
            for name, share in shares.items():
                if share == 0:
                    continue
                space = self._open_space(history.task, name)
                got = self._strategy.propose(
                    history, space, share, ranker=learner.ranker(history), rng=rng
                )
                history.reserve(proposal.candidate for proposal in got)
                found += got
                if len(got) < share:
                    names.remove(name)
        return found

    def _least_cycles(self, history: TaskHistory, names: Sequence[str]) -> dict[str, float]:
        """Estimates of spaces that can tell."""
        found = {name: self._open_space(history.task, name).least_cycles for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Let go of a plan that nobody will wait for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
