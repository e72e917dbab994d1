"""Anchor windows between candidates: taken rarely, compared with the first, applied to the rest.

What is applied is the median of the latest: a single anchor also follows the temperature that the
candidate before it left behind. Divided by single ones, the energies of an H100 recording that
lasted seven minutes told candidates apart worse than they did undivided.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from search.trial import EnergyMeasurement, Verdict

# Beyond this share something happened that a factor does not describe.
MOST_DRIFT = 0.10
N_LATEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Energy per launch of the anchor kernel.

    Attributes:
        energy_mj: Millijoules.
        ci95_mj: Half width of the 95 % interval.
    """

    energy_mj: float
    ci95_mj: float


class AnchorWatch:
    """Decides when the anchor is measured, and what follows from it.

    Args:
        measure: Takes one window of the anchor.
        reference: The run's first anchor.
        every: Windows of candidates between two anchors; 0 for never.
        is_fresh: False if the reference is not of this moment: the first window then waits
            for an anchor.
    """

    def __init__(
        self,
        measure: Callable[[], EnergyMeasurement],
        reference: Anchor,
        *,
        every: int,
        is_fresh: bool,
    ) -> None:
        self._measure = measure
        self._reference = reference
        self._every = every
        self._n_windows = 0
        self._is_due = every > 0 and not is_fresh
        self._latest = deque([reference] if is_fresh else [], maxlen=N_LATEST)

    def before_window(self) -> None:
        """Measure the anchor if its turn has come; one that may not be used changes nothing."""
        is_due, self._is_due = self._is_due, False
        self._n_windows += 1
        if self._every > 0 and self._n_windows % self._every == 0:
            self._is_due = True
        if is_due:
            taken = self._measure()
            if taken.verdict.usable and taken.energy_mj is not None:
                self._latest.append(Anchor(energy_mj=taken.energy_mj, ci95_mj=taken.ci95_mj or 0.0))

    @property
    def _now(self) -> Anchor:
        """The latest anchors' medians; the first anchor before there is another."""
        latest = list(self._latest) or [self._reference]
        return Anchor(
            energy_mj=statistics.median(one.energy_mj for one in latest),
            ci95_mj=statistics.median(one.ci95_mj for one in latest),
        )

    @property
    def drift(self) -> float:
        """The latest anchors over the first; 1 where their intervals explain the difference."""
        now, first = self._now, self._reference
        noise_mj = (now.ci95_mj**2 + first.ci95_mj**2) ** 0.5
        if abs(now.energy_mj - first.energy_mj) <= noise_mj:
            return 1.0
        return now.energy_mj / first.energy_mj

    def applied(self, measurement: EnergyMeasurement) -> EnergyMeasurement:
        """A candidate's measurement as it would have been when the run began."""
        if measurement.energy_mj is None or measurement.power_w is None:
            return replace(measurement, anchor_mj=self._now.energy_mj)
        drift = self.drift
        if abs(drift - 1) > MOST_DRIFT:
            return replace(
                measurement,
                energy_mj=None,
                ci95_mj=None,
                power_w=None,
                anchor_mj=self._now.energy_mj,
                drift=drift,
                verdict=Verdict.DRIFTED,
                reason=f"the anchor kernel now takes {drift - 1:+.1%} energy: the device has "
                "changed since the run began.",
            )
        return replace(
            measurement,
            energy_mj=measurement.energy_mj / drift,
            ci95_mj=None if measurement.ci95_mj is None else measurement.ci95_mj / drift,
            power_w=measurement.power_w / drift,
            anchor_mj=self._now.energy_mj,
            drift=drift,
        )
