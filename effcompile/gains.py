"""Default beside tuned, from one interleaved session."""

from __future__ import annotations

import math
from collections.abc import Sequence

from effcompile.manifest import Gain
from search.comparison import ratio_of
from search.final import Ratio
from search.ports import FinalMeasurement


def gain_of(default: FinalMeasurement, tuned: FinalMeasurement) -> Gain:
    """Both measurements and their ratios; of one round alone no ratio is told.

    Args:
        default: The first build of the session, whose own ratios are one.
        tuned: The other; its ratios are over the first.
    """
    return Gain(
        default_latency=default.latency,
        default_energy=default.energy,
        latency=tuned.latency,
        energy=tuned.energy,
        latency_ratio=_bounded(tuned.latency_ratios),
        energy_ratio=_bounded(tuned.energy_ratios),
        sustained_ratio=_bounded(tuned.sustained_ratios),
    )


def _bounded(rounds: Sequence[float]) -> Ratio | None:
    ratio = ratio_of(rounds)
    # JSON has no infinity, and a manifest must read back as it was written.
    return ratio if ratio is not None and math.isfinite(ratio.high) else None
