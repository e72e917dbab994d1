"""What a calibration teaches about later windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from effcompile.measure.beat import LEAST_IN_TIME, MOST_DEVIATIONS, Beat
from effcompile.measure.windows import Experience, Reading, blocks_of, steady_window, steps_of
from search.meter_facts import MeterFacts

# Standard deviation over median distance, for normal scatter.
MEDIAN_TO_DEVIATION = 1.4826


def experience_of(readings: Sequence[Reading], beat: Beat | None) -> Experience:
    """What a long look at a steady load teaches about shorter ones."""
    known = _beaten(beat)
    window = steady_window(readings, known)
    if window is None:
        return known
    inside = [one for one in readings if one.time_s >= window.first.time_s]
    blocks = blocks_of([window.first, *steps_of(inside)], known)
    powers = _usual(np.array([block.power_w for block in blocks]))
    if len(powers) < 3 or powers.mean() <= 0:
        return known
    return replace(
        known,
        scatter_share=float(powers.std(ddof=1) / powers.mean()),
        n_degrees=len(powers) - 1,
    )


def _usual(powers: np.ndarray) -> np.ndarray:
    """Without the few that lie far from the others.

    A step that a busy host saw late makes one block poor and the next one rich, and every interval
    of the run would be as wide as that.
    """
    away = np.abs(powers - np.median(powers))
    is_near = away <= MOST_DEVIATIONS * MEDIAN_TO_DEVIATION * float(np.median(away))
    return powers[is_near] if is_near.sum() >= LEAST_IN_TIME * len(powers) else powers


def _beaten(beat: Beat | None) -> Experience:
    if beat is None or not beat.is_regular:
        return Experience()
    return Experience(period_s=beat.period_s, period_share=beat.period_ci95_s / beat.period_s)


def learnt(facts: MeterFacts) -> Experience:
    """What later windows use of a calibration."""
    return Experience(
        period_s=facts.period_ms / 1000 if facts.has_beat else None,
        period_share=facts.period_ci95_ms / facts.period_ms if facts.has_beat else 0.0,
        scatter_share=facts.scatter_share,
        n_degrees=facts.n_degrees,
    )
