"""Proposes the next round while the one before it is measured.

    measured   ... g-1 | g           | g+1
    planned          g | g+1         | g+2         each from what was known before the round
                       from <= g-1     from <= g   that is being measured

What a round may be planned from is decided by the record alone: everything but the results
of the round stored last. A run that was killed and continued therefore plans the same,
however far the last round had come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from search.memory import RunMemory
from search.space_shares import split_round
from search.stored import Proposal
from search.strategy import Strategy
from search.task_scheduler import cost_share, next_task


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

    def start(self) -> Plan | None:
        """Begin to plan the round after the one stored last; ``None`` if there is none to come.

        Every round but the one stored last must be finished, energies included. The first
        round of all may be planned before anything is stored.
        """
        known = self._memory.known_before_newest()
        n_left = self._config.n_trials - max(self._memory.n_proposed, len(known))
        if n_left <= 0:
            return None
        n_rounds = self._memory.n_search_rounds()
        even = self._config.task_order == "even"
        chosen = next_task(known, n_rounds, max_slowdown=self._config.max_slowdown, even=even)
        if chosen is None:
            return None
        if not self._memory.is_searching:
            # How often defaults must be tried shows only later: what is too much is not stored.
            n_left = self._config.n_trials - len(known)
        share = 1.0 if even else cost_share(chosen, known)
        n_wanted = min(n_left, round_size(self._config, n_tasks=len(known), cost_share=share))
        rng = self._generator(chosen, n_rounds.get(chosen.task.task_id, 0))
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
