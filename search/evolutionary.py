"""Evolution guided by the cost models: by latency alone, or by energy too (``evolve_by``).

best measured ---+
                 +--> parents --mutate--> children --rank--> parents ... (n generations)
random samples --+                           |
                                             v
         batch: fast by prediction | low energy by prediction | local moves | random
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.config import SearchConfig
from search.history import TaskHistory
from search.hypervolume_gain import N_DRAWS, pick_by_gain
from search.local_search import local_moves
from search.objective import rank
from search.random_search import fresh_samples
from search.stored import Proposal
from search.strategy import Ranker, Ranking

LOW_ENERGY_SHARE = 0.25
"""Share of a batch picked for predicted energy instead of latency."""

SAMPLE_SHARE = 0.25
"""Fresh random candidates in the first generation, as a share of the population."""

POPULATION_PER_TRIAL = 2
LEAST_POPULATION = 16
"""Small rounds evolve small populations: ranking more costs more than it finds."""

PARENT_DECAY = 0.95
"""Each rank is chosen as parent this much less often than the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A candidate in the population, and where it came from."""

    candidate: Candidate
    origin: str


@dataclass(frozen=True, slots=True)
class LatencyOnly:
    """A ranker whose energies are not looked at."""

    ranker: Ranker

    def rank(self, space: DesignSpace, candidates: Sequence[Candidate]) -> Ranking | None:
        """See :class:`search.strategy.Ranker`."""
        found = self.ranker.rank(space, candidates)
        return found and replace(found, energy_mj=None, energy_spread_mj=None)


class Evolutionary:
    """Mutates around the fast and the low-energy, lets the models choose what to try."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config

    def propose(
        self,
        history: TaskHistory,
        space: DesignSpace,
        n: int,
        *,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """See :class:`search.strategy.Strategy`."""
        if self.config.evolve_by == "latency":
            ranker = LatencyOnly(ranker)
        size = self._population_size(n)
        n_random = min(n, max(1, round(self.config.random_share * n)))
        samples = fresh_samples(history, space, n_random + round(SAMPLE_SHARE * size), rng)
        elites = self._elites(history, space, size)
        if samples and ranker.rank(space, samples[:1]) is not None:
            # The first samples stay out of the evolution: an unbiased look at the space.
            blind, pool = samples[:n_random], samples[n_random:]
            population = self._evolve(
                history, space, pool, elites, size=size, ranker=ranker, rng=rng
            )
            guided = self._guided(
                history, space, population, n, n_free=n - len(blind), ranker=ranker, rng=rng
            )
            found = _distinct([*guided, *_as(blind, "sample"), *_as(pool, "sample")], n)
        else:
            parents = [elites[i % len(elites)] for i in range(n // 2)] if elites else []
            children = _new_children(history, space, parents, rng)
            found = _distinct([*_as(children, "mutate"), *_as(samples, "sample")], n)
        if len(found) == n or not samples:
            return found
        return _distinct([*found, *_as(fresh_samples(history, space, n, rng), "sample")], n)

    def _guided(
        self,
        history: TaskHistory,
        space: DesignSpace,
        population: list[_Known],
        n: int,
        *,
        n_free: int,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """What the models like: of the population, then steps from the measured front.

        Args:
            history: The task's.
            space: Where to look.
            population: Untried candidates.
            n: Of the round, which the share of steps is of.
            n_free: How many to choose.
            ranker: The models.
            rng: Breaks ties, draws steps.
        """
        n_local = min(n_free, round(self._local_share() * n))
        moves = local_moves(
            history, space, n_local, band=self.config.energy_band, ranker=ranker, rng=rng
        )
        known = {one.candidate_id for one in moves}
        batch = self._batch(history, space, population, n_free, ranker=ranker, rng=rng)
        chosen = [one for one in batch if one.candidate.candidate_id not in known]
        return [*chosen[: n_free - len(moves)], *_as(moves, "local")]

    def _local_share(self) -> float:
        """Who does not look at energies knows no front to move from."""
        return 0.0 if self.config.evolve_by == "latency" else self.config.local_share

    def _population_size(self, n: int) -> int:
        """Smaller for small rounds: ranking costs milliseconds per candidate in large spaces."""
        return min(self.config.population, max(LEAST_POPULATION, POPULATION_PER_TRIAL * n))

    def _elites(self, history: TaskHistory, space: DesignSpace, size: int) -> list[Candidate]:
        """Best measured candidates of the space: by objective, filled up by latency."""
        trials = {t.trial_id: t for t in history.ok_trials() if t.candidate.space == space.name}
        points = [history.point(trial) for trial in trials.values() if trial.same_as is None]
        if self.config.evolve_by == "latency":
            points = [replace(one, energy_mj=None) for one in points]
        ranked = rank(points, max_slowdown=self.config.energy_band)
        return [trials[p.trial_id].candidate for p in ranked[: size // 4]]

    def _evolve(
        self,
        history: TaskHistory,
        space: DesignSpace,
        samples: list[Candidate],
        elites: list[Candidate],
        *,
        size: int,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[_Known]:
        """Untried candidates of all generations, at most ``size``."""
        untried = {c.candidate_id: _Known(candidate=c, origin="sample") for c in samples}
        for _ in range(self.config.n_generations):
            parents = [*elites, *(known.candidate for known in untried.values())]
            if not parents:
                break
            order = _fitness_order(ranker.rank(space, parents), len(parents))
            weights = PARENT_DECAY ** np.arange(len(parents))
            drawn = rng.choice(order, size=size, p=weights / weights.sum())
            children = _new_children(history, space, [parents[i] for i in drawn], rng)
            for child in children:
                untried.setdefault(child.candidate_id, _Known(candidate=child, origin="mutate"))
            known = list(untried.values())
            ranking = ranker.rank(space, [one.candidate for one in known])
            kept = [known[i] for i in _fitness_order(ranking, len(known))[:size]]
            untried = {one.candidate.candidate_id: one for one in kept}
        return list(untried.values())

    def _batch(
        self,
        history: TaskHistory,
        space: DesignSpace,
        population: Sequence[_Known],
        n: int,
        *,
        ranker: Ranker,
        rng: np.random.Generator,
    ) -> list[Proposal]:
        """What to try of the population: by expected gain if so configured, then by quota."""
        ranking = ranker.rank(space, [known.candidate for known in population])
        if ranking is None or n <= 0:
            return []
        first: list[int] = []
        if self.config.batch_by == "hypervolume":
            first = by_expected_gain(history, ranking, n, band=self.config.energy_band, rng=rng)
        order = dict.fromkeys([*first, *self._by_quota(ranking, n)])
        picked = [population[i] for i in order][:n]
        return [Proposal(candidate=one.candidate, origin=one.origin) for one in picked]

    def _by_quota(self, ranking: Ranking, n: int) -> list[int]:
        """The predicted fastest, with a share of the predicted least energy among the fast."""
        by_latency = [int(i) for i in np.argsort(ranking.log_slowdown, kind="stable")]
        energy = ranking.energy_mj
        by_energy: list[int] = []
        if energy is not None and by_latency:
            limit = ranking.log_slowdown[by_latency[0]] + np.log2(1.0 + self.config.energy_band)
            near = [i for i in by_latency if ranking.log_slowdown[i] <= limit]
            by_energy = sorted(near, key=lambda i: float(energy[i]))
        n_energy = min(len(by_energy), round(LOW_ENERGY_SHARE * n))
        return [*by_energy[:n_energy], *by_latency]


def by_expected_gain(
    history: TaskHistory, ranking: Ranking, n: int, *, band: float, rng: np.random.Generator
) -> list[int]:
    """Indices by what each is expected to add to the task's front, see ``hypervolume_gain``.

    Empty before energies are predicted and measured.
    """
    known = [p for p in history.points() if p.energy_mj is not None]
    best_us = history.best_latency_us()
    if ranking.energy_mj is None or best_us is None or not known:
        return []
    shape = (N_DRAWS, len(ranking.log_slowdown))
    log_spread = 0.0 if ranking.log_spread is None else ranking.log_spread
    spread_mj = 0.0 if ranking.energy_spread_mj is None else ranking.energy_spread_mj
    log_error = log_spread * rng.standard_normal(shape)
    power_error = spread_mj / ranking.energy_mj * rng.standard_normal(shape)
    latency = best_us * np.exp2(ranking.log_slowdown + log_error)
    # A candidate that turns out slower also spends the power for longer.
    energy = ranking.energy_mj * np.exp2(log_error) * np.exp(power_error)
    inside = [p.energy_mj for p in known if p.latency_us <= best_us * (1.0 + band)]
    reference = best_us * (1.0 + band), max(e for e in inside or [known[0].energy_mj] if e)
    points = np.array([(p.latency_us, p.energy_mj) for p in known], dtype=np.float64)
    return pick_by_gain(latency, energy, points, reference, n)


def _new_children(
    history: TaskHistory,
    space: DesignSpace,
    parents: Sequence[Candidate],
    rng: np.random.Generator,
) -> list[Candidate]:
    children = {c.candidate_id: c for c in space.mutate(parents, rng) if c is not None}
    return [c for key, c in children.items() if not history.was_tried(key)]


def _fitness_order(ranking: Ranking | None, n: int) -> np.ndarray:
    """Indices from fit to unfit: ranks by latency and by energy take turns."""
    if ranking is None:
        return np.arange(n)
    by_latency = np.argsort(ranking.log_slowdown, kind="stable")
    energy = ranking.energy_mj
    if energy is None:
        return by_latency
    rank_of = np.empty(n)
    rank_of[by_latency] = np.arange(n)
    by_energy = np.argsort(energy, kind="stable")
    energy_rank = np.empty(n)
    energy_rank[by_energy] = np.arange(n)
    return np.argsort(np.minimum(rank_of, energy_rank + 0.5), kind="stable")


def _as(candidates: Iterable[Candidate], origin: str) -> list[Proposal]:
    return [Proposal(candidate=candidate, origin=origin) for candidate in candidates]


def _distinct(proposals: Iterable[Proposal], n: int) -> list[Proposal]:
    found: dict[str, Proposal] = {}
    for proposal in proposals:
        found.setdefault(proposal.candidate.candidate_id, proposal)
    return list(found.values())[:n]
