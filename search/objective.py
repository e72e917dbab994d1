"""Least energy within a latency limit; least latency where energy is unmeasured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from search.final import Criterion


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A usable trial as the objective sees it.

    Attributes:
        trial_id: Which trial.
        latency_us: Microseconds per launch in short bursts.
        energy_mj: Millijoules per launch, ``None`` if unmeasured or unusable.
        sustained_us: Microseconds per launch under lasting load, likewise.
    """

    trial_id: int
    latency_us: float
    energy_mj: float | None = None
    sustained_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best point, and by which number it is the best.

    Attributes:
        point: The point.
        criterion: ``energy``, or ``latency`` where no point within the limit has an energy.
    """

    point: Point
    criterion: Criterion


def rank(points: Sequence[Point], *, max_slowdown: float) -> list[Point]:
    """Points from best to worst; ties go to the lower latency, then to the earlier trial.

    Within the latency limit, measured energies come first, in order; the others
    follow by latency. Latency is that under lasting load, as far as it is known.

    Args:
        points: Any order.
        max_slowdown: Share of the least latency that may be given up, 0.02 for 2 %.
    """
    if not points:
        return []
    lasting_us = _lasting_us(points)
    limit_us = (1.0 + max_slowdown) * min(lasting_us.values())

    def key(point: Point) -> tuple[bool, bool, float, float, int]:
        latency_us = lasting_us[point.trial_id]
        beyond, unknown = latency_us > limit_us, point.energy_mj is None
        energy = 0.0 if beyond or point.energy_mj is None else point.energy_mj
        return beyond, unknown and not beyond, energy, latency_us, point.trial_id

    return sorted(points, key=key)


def _lasting_us(points: Sequence[Point]) -> dict[int, float]:
    """Latency under lasting load by trial: measured, or the burst times the usual factor.

    The factor is the median over the points that have both, so that a point is neither
    favoured nor punished for not having been measured.
    """
    factors = [one.sustained_us / one.latency_us for one in points if one.sustained_us is not None]
    usual = statistics.median(factors) if factors else 1.0
    return {
        one.trial_id: one.latency_us * usual if one.sustained_us is None else one.sustained_us
        for one in points
    }


def choose(points: Sequence[Point], *, max_slowdown: float) -> Choice | None:
    """The best point, ``None`` without points."""
    ranked = rank(points, max_slowdown=max_slowdown)
    if not ranked:
        return None
    return Choice(point=ranked[0], criterion="latency" if ranked[0].energy_mj is None else "energy")
