"""A calibration as an H200 might give it."""

from __future__ import annotations

from search.meter_facts import MeterFacts


def facts(anchor_mj: float) -> MeterFacts:
    return MeterFacts(
        meter="simulated",
        period_ms=100.0,
        period_ci95_ms=0.1,
        jitter_ms=0.5,
        has_beat=True,
        call_ms=4.0,
        scatter_share=0.002,
        n_degrees=10,
        idle_cold_w=80.0,
        idle_hot_w=120.0,
        rise_ms=150.0,
        anchor_mj=anchor_mj,
        anchor_ci95_mj=0.1,
        anchor_power_w=300.0,
        anchor_latency_us=20.0,
        repeatability=0.003,
        instant_share=None,
        memory_power_w=None,
        seconds=2.5,
    )
