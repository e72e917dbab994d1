"""Single moves from the latency-energy front: the last few per cent lie next to the best.

Evolution jumps between families of candidates; a local move changes one decision of a
front point. Points that differ by less than measuring noise are the same place: moves
start from one of them only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.final import FrontPoint
from search.history import TaskHistory
from search.objective import Point, rank
from search.pareto import front
from search.strategy import Ranker

DRAWN_PER_MOVE = 6
"""Single moves drawn for each one wanted: the models choose among them."""

FASTEST_WITHOUT_ENERGY = 3
"""Starting points where no energy is known."""


def local_moves(
    history: TaskHistory,
    space: DesignSpace,
    n: int,
    *,
    band: float,
    ranker: Ranker,
    rng: np.random.Generator,
) -> list[Candidate]:
    """At most ``n`` untried neighbours of the front, the most promising first.

    Every starting point has its turn before one has a second.

    Args:
        history: The task's trials.
        space: Where the moves are made; points of other spaces start none.
        n: Moves wanted.
        band: Front points slower than the fastest by more than this share start none.
        ranker: Orders the neighbours of a point.
        rng: For the moves.
    """
    starts = _starts(history, space, band) if n > 0 else []
    if not starts:
        return []
    n_drawn = math.ceil(DRAWN_PER_MOVE * n / len(starts))
    # All in one go: each call waits for the slowest of its replays.
    drawn = space.mutate([parent for parent in starts for _ in range(n_drawn)], rng)
    untried = [
        child if child is not None and not history.was_tried(child.candidate_id) else None
        for child in drawn
    ]
    promise = _promise(space, [child for child in untried if child is not None], ranker)
    found = [
        _best_first(untried[first : first + n_drawn], promise)
        for first in range(0, len(untried), n_drawn)
    ]
    turns: dict[str, Candidate] = {}
    for place in range(n_drawn):
        for children_of_one in found:
            if place < len(children_of_one):
                child = children_of_one[place]
                turns.setdefault(child.candidate_id, child)
    return list(turns.values())[:n]


def distinct_front(
    points: Sequence[FrontPoint], ci95_mj: Sequence[float | None]
) -> list[FrontPoint]:
    """Front points whose energy is lower than the last kept one's by more than both intervals.

    Two independent intervals of half widths a and b differ with 95 % confidence if their
    centres are further apart than ``sqrt(a^2 + b^2)``.

    Args:
        points: A front by increasing latency.
        ci95_mj: Half width of each energy's interval, ``None`` if unknown.
    """
    kept: list[tuple[FrontPoint, float]] = []
    for point, ci95 in zip(points, ci95_mj, strict=True):
        width = ci95 or 0.0
        if kept:
            last, last_width = kept[-1]
            if last.energy_mj - point.energy_mj <= float(np.hypot(width, last_width)):
                continue
        kept.append((point, width))
    return [point for point, _ in kept]


def _starts(history: TaskHistory, space: DesignSpace, band: float) -> list[Candidate]:
    trials = {t.trial_id: t for t in history.ok_trials() if t.candidate.space == space.name}
    points = [history.point(trial) for trial in trials.values() if trial.same_as is None]
    best_us = history.best_latency_us()
    if best_us is None:
        return []
    near = [point for point in points if point.latency_us <= best_us * (1.0 + band)]
    known = front(near)
    if known:
        starts = distinct_front(known, [_ci95_mj(history, one.trial_id) for one in known])
        return [trials[one.trial_id].candidate for one in starts]
    fastest: list[Point] = rank(points, max_slowdown=0.0)[:FASTEST_WITHOUT_ENERGY]
    return [trials[one.trial_id].candidate for one in fastest]


def _ci95_mj(history: TaskHistory, trial_id: int) -> float | None:
    energy = history.energy_by_id(trial_id)
    return None if energy is None else energy.ci95_mj


def _promise(space: DesignSpace, children: Sequence[Candidate], ranker: Ranker) -> dict[str, float]:
    """Predicted energy, or latency before energies are known; less is better."""
    ranking = ranker.rank(space, children) if children else None
    if ranking is None:
        return {}
    values = ranking.log_slowdown if ranking.energy_mj is None else ranking.energy_mj
    return {one.candidate_id: float(value) for one, value in zip(children, values, strict=True)}


def _best_first(children: Sequence[Candidate | None], promise: dict[str, float]) -> list[Candidate]:
    """Distinct ones by promise, in the given order where nothing is predicted."""
    distinct = {child.candidate_id: child for child in children if child is not None}
    return sorted(distinct.values(), key=lambda child: promise.get(child.candidate_id, 0.0))
