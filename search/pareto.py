"""The latency-energy front, and how much it covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from search.final import FrontPoint
from search.objective import Point


def front(points: Iterable[Point]) -> tuple[FrontPoint, ...]:
    """Points that no other point beats in one number without losing in the other.

    Points without energy cannot be placed and are left out. Of equal points the
    earliest trial stays.

    Returns:
        By increasing latency, hence decreasing energy.
    """
    placed = [
        FrontPoint(trial_id=one.trial_id, latency_us=one.latency_us, energy_mj=one.energy_mj)
        for one in points
        if one.energy_mj is not None
    ]
    kept: list[FrontPoint] = []
    for point in sorted(placed, key=lambda one: (one.latency_us, one.energy_mj, one.trial_id)):
        if not kept or point.energy_mj < kept[-1].energy_mj:
            kept.append(point)
    return tuple(kept)


def hypervolume(points: Sequence[FrontPoint], *, latency_us: float, energy_mj: float) -> float:
    """Area between a front and a reference that is worse in both numbers.

    Args:
        points: A front, as :func:`front` returns it; points beyond the reference add nothing.
        latency_us: Latency of the reference.
        energy_mj: Energy of the reference.

    Returns:
        Microseconds times millijoules.
    """
    area, ceiling = 0.0, energy_mj
    for point in points:
        if point.latency_us >= latency_us or point.energy_mj >= ceiling:
            continue
        area += (latency_us - point.latency_us) * (ceiling - point.energy_mj)
        ceiling = point.energy_mj
    return area
