"""Times between the steps of a real counter: twenty seconds of one load on an H200.

Recorded by scripts/gpu_counter_steps.py; the power behind it is steady within 0.1 %.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from effcompile.measure.beat import beat_of
from effcompile.measure.experience import experience_of
from effcompile.measure.steps import Reading, steps_of
from effcompile.measure.windows import Experience, blocks_of

RECORDED = Path(__file__).parent / "data" / "h200_counter.npz"
SETTLED_S, CALIBRATED_S = 2.0, 4.0


def recorded() -> list[Reading]:
    with np.load(RECORDED) as file:
        times = file["call_us"].mean(axis=1) / 1e6
        counters = file["counter_mj"]
    return [
        Reading(time_s=float(t), counter_mj=float(mj), n_launches=i, busy_us=50.0 * i)
        for i, (t, mj) in enumerate(zip(times, counters, strict=True))
        if t >= SETTLED_S
    ]


def learnt_from(readings: list[Reading]) -> Experience:
    first = [one for one in readings if one.time_s < CALIBRATED_S]
    return experience_of(first, beat_of(first))


def scatter_of(readings: list[Reading], experience: Experience, n_steps: int) -> float:
    """Standard deviation of power in windows of some steps, as a share."""
    blocks = blocks_of(steps_of(readings), experience)
    powers = [
        sum(one.power_w * one.span_s for one in part) / sum(one.span_s for one in part)
        for part in (blocks[i : i + n_steps] for i in range(len(blocks) - n_steps))
    ]
    return float(np.std(powers) / np.mean(powers))


def test_a_counter_that_steps_early_and_late_by_itself_is_seen_through() -> None:
    readings = recorded()
    experience = learnt_from(readings)
    assert experience.period_s == pytest.approx(0.1, rel=0.002)
    assert 0.0003 < experience.jitter_s < 0.002
    assert experience.scatter_share < 0.004
    by_beat, as_seen = replace(experience, jitter_s=0.0), Experience()
    for n_steps in (2, 3):
        found = scatter_of(readings, experience, n_steps)
        assert found < 0.5 * scatter_of(readings, by_beat, n_steps)
        assert found < 0.8 * scatter_of(readings, as_seen, n_steps)
    assert scatter_of(readings, experience, 2) < 0.002
    assert scatter_of(readings, experience, 10) < 0.0008


def test_nobody_looking_for_a_while_costs_little() -> None:
    readings = recorded()
    experience = learnt_from(readings)
    step = steps_of(readings)[60]
    away = [one for one in readings if not -0.001 < one.time_s - step.time_s < 0.05]
    blocks = blocks_of(steps_of(away), experience)
    usual = float(np.median([one.power_w for one in blocks]))
    assert max(abs(one.power_w / usual - 1) for one in blocks[50:70]) < 0.025
