"""How well windows of a second repeat over minutes, as ratios to an anchor right beside them.

    anchor  copy  anchor  matmul  anchor  anchor ...  anchor  copy  anchor  matmul  anchor ...
           `-- ratio --'                  until the next round is due

A board warms for a minute or more, and each kernel's power follows its temperature in its own way.
So the anchor runs until it repeats before the first round, and in place of pauses: what is compared
was measured within three seconds, on a device that never rested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from effcompile.bench.meter_kernels import KERNELS
from search.trial import EnergyMeasurement

WINDOW_S = 1.0
STEADY_SHARE = 0.003
"""Of the anchor: three windows in a row this close together show a device that is warm."""

N_STEADY, MOST_WARMING = 3, 16

TakeWindow = Callable[[str, float], EnergyMeasurement]
"""A kernel's name and milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterWindow:
    """One usable window.

    Attributes:
        kernel: Which.
        end_s: When it had ended, from the start of the benchmark on.
        energy_mj: Per launch.
        ratio: To the mean of the anchors before and after; ``None`` for the anchor itself.
        power_w: Mean.
        latency_us: Per launch.
        temperature_c: Greatest seen.
        clock_mhz: Greatest seen.
    """

    kernel: str
    end_s: float
    energy_mj: float
    ratio: float | None = None
    power_w: float
    latency_us: float
    temperature_c: float
    clock_mhz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """One kernel's windows of a second.

    Attributes:
        kernel: Which.
        n_windows: Those with an anchor on both sides.
        minutes: From the first to the last.
        energy_mj: Mean.
        energy_scatter: Standard deviation as a share of the mean.
        ratio_scatter: Likewise of the ratio to the anchors.
        power_w: Mean.
        temperature_c: Least and greatest.
    """

    kernel: str
    n_windows: int
    minutes: float
    energy_mj: float
    energy_scatter: float
    ratio_scatter: float
    power_w: float
    temperature_c: tuple[float, float]


class Rounds:
    """Windows of every kernel between windows of the anchor.

    Args:
        take: Measures.
        pause_s: From the start of a round to the next one's, at least.
        clock: Seconds.
    """

    def __init__(
        self,
        take: TakeWindow,
        *,
        pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.windows: list[MeterWindow] = []
        self._take, self._pause_s, self._clock = take, pause_s, clock
        self._begin_s = clock()

    def warm_up(self) -> None:
        """Run the anchor until it repeats."""
        latest: list[float] = []
        for _ in range(MOST_WARMING):
            taken = self._window("anchor")
            latest = [*latest, taken.energy_mj][-N_STEADY:] if taken else []
            if len(latest) == N_STEADY and max(latest) - min(latest) <= STEADY_SHARE * latest[0]:
                return

    def run(self, n_rounds: int) -> None:
        """Take more windows."""
        before = self._window("anchor")
        for _ in range(n_rounds):
            next_s = self._clock() + self._pause_s
            for name in KERNELS:
                own, after = self._window(name, keep=False), self._window("anchor")
                if own and before and after:
                    mean_mj = (before.energy_mj + after.energy_mj) / 2
                    self.windows.append(replace(own, ratio=own.energy_mj / mean_mj))
                before = after
            while self._clock() + WINDOW_S < next_s:
                before = self._window("anchor")

    def _window(self, name: str, *, keep: bool = True) -> MeterWindow | None:
        taken = self._take(name, 1000 * WINDOW_S)
        if taken.energy_mj is None or taken.power_w is None:
            return None
        found = MeterWindow(
            kernel=name,
            end_s=self._clock() - self._begin_s,
            energy_mj=taken.energy_mj,
            power_w=taken.power_w,
            latency_us=taken.sustained_latency_us or float("nan"),
            temperature_c=max(taken.conditions.temperature_c, default=float("nan")),
            clock_mhz=max(taken.conditions.clock_mhz, default=float("nan")),
        )
        if keep:
            self.windows.append(found)
        return found

    def rows(self) -> list[Repeatability]:
        """What the windows so far say."""
        by_name = {name: [one for one in self.windows if one.kernel == name] for name in KERNELS}
        return [_repeatability(name, own) for name, own in by_name.items() if own]


def _repeatability(name: str, windows: Sequence[MeterWindow]) -> Repeatability:
    energies = [one.energy_mj for one in windows]
    heat = [one.temperature_c for one in windows]
    return Repeatability(
        kernel=name,
        n_windows=len(windows),
        minutes=(windows[-1].end_s - windows[0].end_s) / 60,
        energy_mj=float(np.mean(energies)),
        energy_scatter=scatter(energies),
        ratio_scatter=scatter([one.ratio for one in windows if one.ratio is not None]),
        power_w=float(np.mean([one.power_w for one in windows])),
        temperature_c=(min(heat), max(heat)),
    )


def scatter(values: Sequence[float] | np.ndarray) -> float:
    """Standard deviation as a share of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 else 0.0
