"""What a recording holds of each workload: the fastest, the frugal, the front between them.

Numbers are recorded ones, a window or two each: the least of many of them is a little too low.
What a choice really saves, only fresh windows in turn tell (``bench winners``).
"""

from __future__ import annotations

from dataclasses import dataclass

from search.objective import Point
from search.pareto import front
from search.recording import RecordedBinary, RecordedTask, Recording

SLOWDOWNS = (0.02, 0.05, 0.10, 0.50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """One workload.

    Attributes:
        workload: Its name.
        n_candidates: Binaries that may be used.
        n_energies: Of these, with an energy.
        default: The default schedule.
        fastest: The fastest with an energy, in short bursts.
        space: Design space of the fastest.
        least: The one of least energy within each of :data:`SLOWDOWNS` of the fastest.
        points: Everything with an energy.
        peer: Name of the library's kernel of least energy; empty without one.
        peer_point: Its numbers.
    """

    workload: str
    n_candidates: int
    n_energies: int
    default: Point | None
    fastest: Point
    space: str
    least: tuple[Point, ...]
    points: tuple[Point, ...]
    peer: str = ""
    peer_point: Point | None = None

    def saved(self) -> list[float]:
        """Energy saved against the fastest within each slowdown, as a share."""
        return [1.0 - energy_mj(one) / energy_mj(self.fastest) for one in self.least]

    def cells(self) -> dict[str, object]:
        """For a table."""
        limits = {f"at <= {100 * limit:.0f} %": limit for limit in SLOWDOWNS}
        return {
            "workload": self.workload,
            "candidates": self.n_candidates,
            "energies": self.n_energies,
            "default us, mJ": _pair(self.default),
            "fastest us, mJ": _pair(self.fastest),
            "space": self.space,
            "least mJ at <= 2 %": f"{energy_mj(self.least[0]):.3g}",
            **{
                f"saved {name}": f"{100 * share:.1f}"
                for name, share in zip(limits, self.saved(), strict=True)
            },
            "on the front": len(front(self.points)),
            "library us, mJ": f"{self.peer} {_pair(self.peer_point)}".strip(),
        }


def energy_mj(point: Point) -> float:
    """Of a point that has one."""
    assert point.energy_mj is not None
    return point.energy_mj


def _pair(point: Point | None) -> str:
    return "" if point is None else f"{point.latency_us:.4g}, {point.energy_mj or 0.0:.3g}"


def fronts_of(recording: Recording) -> list[Front]:
    """Every workload with at least one energy, in order."""
    found = [_front(task) for task in recording.tasks]
    return [one for one in found if one is not None]


def _front(task: RecordedTask) -> Front | None:
    usable = [one for one in task.binaries if one.latency is not None and one.failure is None]
    by_id = {one.binary_id: _point(number, one) for number, one in enumerate(usable)}
    points = [one for one in by_id.values() if one.energy_mj is not None]
    if not points:
        return None
    fastest = min(points, key=lambda one: one.latency_us)
    space_of = {
        one.binary_id: space.name for space in reversed(task.spaces) for one in space.candidates
    }
    peers = [one for one in task.peers if one.energy_mj is not None and one.latency_us is not None]
    peer = min(peers, key=lambda one: one.energy_mj or 0.0, default=None)
    return Front(
        workload=task.task.workload.name,
        n_candidates=len(usable),
        n_energies=len(points),
        default=by_id.get(task.default.binary_id),
        fastest=fastest,
        space=space_of.get(usable[fastest.trial_id].binary_id, "default"),
        least=tuple(
            min(
                (one for one in points if one.latency_us <= fastest.latency_us * (1 + s)),
                key=energy_mj,
            )
            for s in SLOWDOWNS
        ),
        points=tuple(points),
        peer=peer.name if peer else "",
        peer_point=None
        if peer is None
        else Point(trial_id=-1, latency_us=peer.latency_us or 0.0, energy_mj=peer.energy_mj),
    )


def _point(number: int, binary: RecordedBinary) -> Point:
    assert binary.latency is not None
    return Point(
        trial_id=number, latency_us=binary.latency.latency_us, energy_mj=binary.energy_mj()
    )
