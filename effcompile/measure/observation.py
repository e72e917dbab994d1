"""A load kept running, and a meter read, until a window has closed.

    load    ==================================================  (no gaps)
    counter ......|.......|.......|.......|.......|............
                          ^ settled       ^ last step of the window

Touches clock, load and meter; what the readings mean, ``energy`` decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from effcompile.errors import MeterUnavailable
from effcompile.measure.loads import Load
from effcompile.measure.meters import DeviceState, Meter
from effcompile.measure.power_limit import window_of
from effcompile.measure.windows import NO_EXPERIENCE, Experience, Reading, Window, held_window

# Without a step for this long (but at least twenty periods) the counter counts as stalled.
STALL_S = 2.0
# Three periods of 99.8 ms are a window of 300 ms.
WHOLE_WINDOW_SHARE = 0.98
# A fast counter steps at every reading; a window is looked at less often.
LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look.

    Attributes:
        window_ms: Longest window; it closes then, however wide its interval.
        settle_ms: Longest wait for power to settle before the load counts as unsteady.
        precision: The window closes when its 95 % interval is within this share of its
            power to either side; 0 always takes the longest.
        matters_below_mj: An energy that a candidate must stay under to matter: once its
            whole interval lies above, nothing is gained by looking longer. ``None`` for any.
    """

    window_ms: float
    settle_ms: float = 1000.0
    precision: float = 0.0
    matters_below_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything read around one window.

    Attributes:
        readings: In order of time, from the start of the load on.
        states: Device state under load, before and after.
        lost: Why the meter could not be read any more, empty if it could.
    """

    readings: Sequence[Reading]
    states: Sequence[DeviceState]
    lost: str = ""


def observe(
    load: Load,
    meter: Meter,
    *,
    effort: Effort,
    experience: Experience = NO_EXPERIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> Observation:
    """Keep a load running and read the meter until a window has closed.

    Args:
        load: What to measure.
        meter: What to read.
        effort: How long.
        experience: What is known of the meter.
        clock: Seconds.
    """
    watch = _Watch(load, meter, effort, experience, clock)
    lost = ""
    try:
        watch.run()
    except MeterUnavailable as error:
        lost = str(error)
    finally:
        load.finish()
    return Observation(readings=watch.readings, states=watch.states, lost=lost)


class _Watch:
    """Reads until a window has closed; keeps what it read whatever happens."""

    def __init__(
        self,
        load: Load,
        meter: Meter,
        effort: Effort,
        experience: Experience,
        clock: Callable[[], float],
    ) -> None:
        self.readings: list[Reading] = []
        self.states: list[DeviceState] = []
        self._load, self._meter, self._clock = load, meter, clock
        self._effort, self._experience = effort, experience

    def run(self) -> None:
        """Read until there is enough, or until the counter stands still."""
        stall_s = max(STALL_S, 20 * self._meter.period_ms / 1000)
        begin_s = last_step_s = looked_s = self._clock()
        while not self.readings or self.readings[-1].time_s - last_step_s <= stall_s:
            self._load.advance()
            reading = read_now(self._load, self._meter, self._clock)
            stepped = bool(self.readings) and reading.counter_mj != self.readings[-1].counter_mj
            self.readings.append(reading)
            if not stepped:
                continue
            # Not at once: a device that was idle needs a moment to raise its clocks.
            if not self.states:
                self.states.append(self._meter.state())
            last_step_s = reading.time_s
            if reading.time_s - looked_s >= LOOK_AGAIN_S:
                looked_s = reading.time_s
                if self._may_close(reading.time_s - begin_s):
                    break
        self.states.append(self._meter.state())

    def _may_close(self, load_s: float) -> bool:
        """Whether there is enough; what does not settle may be held at a limit by now."""
        window, _ = window_of(self.readings, self._experience, self.states)
        if window is None and held_window(self.readings, self._experience) is not None:
            states = [*self.states, self._meter.state()]
            window, _ = window_of(self.readings, self._experience, states)
        return _is_enough(window, self._effort, load_s)


def _is_enough(window: Window | None, effort: Effort, load_s: float) -> bool:
    if window is None:
        return load_s * 1000 >= effort.settle_ms + effort.window_ms
    if window.span_s * 1000 >= effort.window_ms * WHOLE_WINDOW_SHARE:
        return True
    if effort.precision > 0 and window.ci95_w <= effort.precision * window.power_w:
        return True
    if effort.matters_below_mj is None or window.last.n_launches == window.first.n_launches:
        return False
    lowest_mj = (window.power_w - window.ci95_w) * window.latency_us / 1000
    return lowest_mj > effort.matters_below_mj


def read_now(load: Load, meter: Meter, clock: Callable[[], float]) -> Reading:
    """Counter of a meter and progress of a load at this moment.

    Raises:
        MeterUnavailable: It cannot be read any more.
    """
    begin = clock()
    counter_mj = meter.counter_mj()
    # A call takes up to some milliseconds; the value belongs to its middle.
    return Reading(
        time_s=(begin + clock()) / 2,
        counter_mj=counter_mj,
        n_launches=load.n_launches,
        busy_us=load.busy_us,
    )
