"""A library's kernel for a task of a run, measured beside it."""

from __future__ import annotations

from dataclasses import dataclass

PEER_NOTE = "peer"
"""Kind of the database notes that hold a :class:`Peer`; of one name, the last counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One library kernel.

    Attributes:
        task_id: The task that it computes.
        name: For people.
        latency_us: In bursts, median over rounds; ``None`` if it was not measured.
        latency_ci95_us: Half width of its interval.
        sustained_latency_us: Time per launch inside the energy windows.
        energy_mj: Per launch, median over rounds.
        energy_ci95_mj: Half width of its interval.
        power_w: Mean power inside the windows.
        verdict: Of the windows; the first that is not ``ok``.
        error: Why there are no numbers.
    """

    task_id: str
    name: str
    latency_us: float | None = None
    latency_ci95_us: float | None = None
    sustained_latency_us: float | None = None
    energy_mj: float | None = None
    energy_ci95_mj: float | None = None
    power_w: float | None = None
    verdict: str = ""
    error: str = ""
