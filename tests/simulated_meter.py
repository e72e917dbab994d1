"""A simulated device, load and meter on a clock of their own, with faults on request."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from effcompile.errors import MeterUnavailable
from effcompile.measure.meters import DeviceState


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class SimulatedLoad:
    """Every launch takes ``latency_us``."""

    clock: Clock
    latency_us: float = 50.0
    batch: int = 20
    n_launches: int = 0
    busy_us: float = 0.0
    finished: bool = False

    def advance(self) -> None:
        self.clock.now_s += self.batch * self.latency_us / 1e6
        self.n_launches += self.batch
        self.busy_us += self.batch * self.latency_us

    def finish(self) -> None:
        self.finished = True


@dataclass
class SimulatedMeter:
    """A counter that moves every ``period_ms``; faults begin ``fault_at_s`` after the start.

    Power rises from ``idle_w`` to ``load_w`` with a time constant of ``rise_s`` if that is
    given, and by ``ramp_w_per_s`` for ever. Steps fall up to ``wobble_ms`` off the beat.
    """

    clock: Clock
    load_w: float = 300.0
    period_ms: float = 100.0
    call_ms: float = 4.0
    fault: str = ""
    fault_at_s: float = 0.5
    idle_w: float = 80.0
    rise_s: float = 0.0
    ramp_w_per_s: float = 0.0
    wobble_ms: float = 0.0
    instant_w: float | None = None
    states: list[DeviceState] = field(default_factory=list)
    name: str = "simulated"

    def __post_init__(self) -> None:
        self.start_s = self.clock()

    def counter_mj(self) -> float:
        self.clock.now_s += self.call_ms / 1000
        since_s = self.clock() - self.start_s
        faulty = since_s > self.fault_at_s
        if self.fault == "lost" and faulty:
            raise MeterUnavailable("the GPU is lost.")
        if self.fault == "stall" and faulty:
            since_s = self.fault_at_s
        period_s = self.period_ms / 1000
        n_steps = int(since_s / period_s)
        if since_s - n_steps * period_s < self.wobble_ms / 1000 * (n_steps * 7919 % 11) / 10:
            n_steps -= 1
        counter = 1000 * self._joules(max(0, n_steps) * period_s)
        return 0.5 * counter if self.fault == "reset" and faulty else counter

    def _joules(self, since_s: float) -> float:
        """The integral of power from the start on."""
        missing_j = 0.0
        if self.rise_s:
            risen = 1 - math.exp(-since_s / self.rise_s)
            missing_j = (self.load_w - self.idle_w) * self.rise_s * risen
        return self.load_w * since_s - missing_j + self.ramp_w_per_s * since_s**2 / 2

    def state(self) -> DeviceState:
        return self.states.pop(0) if self.states else DeviceState(clock_mhz=1980)

    def power_w(self) -> float | None:
        return self.instant_w

    def memory_power_w(self) -> float | None:
        return None
