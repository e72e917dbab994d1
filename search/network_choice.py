"""One candidate per task: least energy of the whole network within its latency budget.

Giving up a microsecond where it saves most beats giving up the same share everywhere.
The sums of all fronts, without the dominated ones, hold the exact answer; if they grow too
many, a price per microsecond that is the same for all tasks gives one close to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search.final import FrontPoint

LARGEST_FRONT = 20_000
"""Sums kept while searching exactly."""

BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFront:
    """What a task may use.

    Attributes:
        task_id: The task.
        weight: Runs per inference.
        points: At least one; any order, dominated ones are ignored.
    """

    task_id: str
    weight: int
    points: Sequence[FrontPoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChoice:
    """One point for every task.

    Attributes:
        points: By task id.
        latency_us: Weighted sum.
        energy_mj: Weighted sum.
        is_exact: False if a better choice within the budget may exist.
    """

    points: dict[str, FrontPoint]
    latency_us: float
    energy_mj: float
    is_exact: bool


@dataclass(frozen=True, slots=True)
class _Sum:
    """Points of the first tasks, as a chain."""

    latency_us: float
    energy_mj: float
    point: FrontPoint | None
    before: _Sum | None


def choose_network(fronts: Sequence[TaskFront], *, budget_us: float) -> NetworkChoice | None:
    """Least energy within the budget; ``None`` if even the fastest points exceed it.

    Args:
        fronts: One per task.
        budget_us: Weighted sum of latencies that may be used.
    """
    sums = [_Sum(0.0, 0.0, None, None)]
    # What the tasks still to come need at least; no sum may use it up.
    needed_us = sum(one.weight * min(p.latency_us for p in one.points) for one in fronts)
    for one in fronts:
        needed_us -= one.weight * min(point.latency_us for point in one.points)
        sums = _non_dominated(
            _Sum(
                known.latency_us + one.weight * point.latency_us,
                known.energy_mj + one.weight * point.energy_mj,
                point,
                known,
            )
            for known in sums
            for point in one.points
            if known.latency_us + one.weight * point.latency_us + needed_us
            <= budget_us * (1.0 + 1e-12)
        )
        if not sums:
            return None
        if len(sums) > LARGEST_FRONT:
            return _by_price(fronts, budget_us)
    best = min(sums, key=lambda one: (one.energy_mj, one.latency_us))
    return _choice(fronts, _points_of(best), is_exact=True)


def _non_dominated(sums: Iterable[_Sum]) -> list[_Sum]:
    kept: list[_Sum] = []
    for one in sorted(sums, key=lambda one: (one.latency_us, one.energy_mj)):
        if not kept or one.energy_mj < kept[-1].energy_mj:
            kept.append(one)
    return kept


def _points_of(last: _Sum) -> list[FrontPoint]:
    points: list[FrontPoint] = []
    one: _Sum | None = last
    while one is not None and one.point is not None:
        points.append(one.point)
        one = one.before
    return points[::-1]


def _by_price(fronts: Sequence[TaskFront], budget_us: float) -> NetworkChoice | None:
    """Every task takes the least ``energy + price * latency``; bisect the price."""

    def at(price: float) -> NetworkChoice:
        return _choice(
            fronts,
            [
                min(one.points, key=lambda point: point.energy_mj + price * point.latency_us)
                for one in fronts
            ],
            is_exact=False,
        )

    low, high = 0.0, 1.0
    fastest = _choice(
        fronts,
        [min(one.points, key=lambda p: (p.latency_us, p.energy_mj)) for one in fronts],
        is_exact=False,
    )
    if fastest.latency_us > budget_us:
        return None
    best = fastest
    while at(high).latency_us > budget_us and high < 1e12:
        low, high = high, 4.0 * high
    for _ in range(BISECTIONS):
        price = (low + high) / 2.0
        found = at(price)
        if found.latency_us > budget_us:
            low = price
        else:
            high, best = price, min(best, found, key=lambda one: one.energy_mj)
    return best


def _choice(
    fronts: Sequence[TaskFront], points: Sequence[FrontPoint], *, is_exact: bool
) -> NetworkChoice:
    pairs = list(zip(fronts, points, strict=True))
    return NetworkChoice(
        points={one.task_id: point for one, point in pairs},
        latency_us=sum(one.weight * point.latency_us for one, point in pairs),
        energy_mj=sum(one.weight * point.energy_mj for one, point in pairs),
        is_exact=is_exact,
    )
