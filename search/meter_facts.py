"""What a run learnt of its energy meter before it trusted it."""

from __future__ import annotations

from dataclasses import dataclass

METER_NOTE = "meter"
"""Kind of the database notes that hold :class:`MeterFacts`, one per session that metered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """One calibration. ``None`` was not told by the device.

    Attributes:
        meter: Name of the meter.
        period_ms: Time between two visible steps of the counter.
        period_ci95_ms: Half width of its 95 % interval.
        jitter_ms: Standard deviation of the steps around a regular beat, as they were seen.
        own_jitter_ms: Standard deviation that is the counter's own, because the energy between
            steps shows it too; the rest is when it was looked.
        has_beat: True if the jitter is no more than late sightings explain: the time between
            steps is then known better than it was seen.
        call_ms: Time of one reading of the counter.
        scatter_share: Standard deviation of power between pieces of one steady window.
        n_degrees: Degrees of freedom behind it.
        idle_cold_w: Power before the first load, with the device open.
        idle_hot_w: Power right after load.
        rise_ms: From the start of the load until power was steady.
        anchor_mj: Energy per launch of the anchor kernel; later anchors are compared with it.
        anchor_ci95_mj: Half width of its 95 % interval.
        anchor_power_w: Mean power under it.
        anchor_latency_us: Time per launch of it, back to back.
        repeatability: Standard deviation of the anchor's windows, as a share.
        instant_share: Power by the device's own instant readings over power by the counter,
            minus 1.
        memory_power_w: The memory's part of the power under the anchor.
        seconds: What all this took.
    """

    meter: str
    period_ms: float
    period_ci95_ms: float
    jitter_ms: float
    has_beat: bool
    call_ms: float
    scatter_share: float
    n_degrees: int
    idle_cold_w: float | None
    idle_hot_w: float | None
    rise_ms: float | None
    anchor_mj: float | None
    anchor_ci95_mj: float | None
    anchor_power_w: float | None
    anchor_latency_us: float | None
    repeatability: float | None
    instant_share: float | None
    memory_power_w: float | None
    seconds: float
    own_jitter_ms: float = 0.0
    schema_version: int = 1
