"""A simulated device, load and meter on a clock of their own, with faults on request."""

from __future__ import annotations

from dataclasses import dataclass, field

from effcompile.errors import MeterUnavailable
from effcompile.measure.meters import DeviceState


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class SimulatedLoad:
    """Draws ``power_w`` while it runs; every launch takes ``latency_us``."""

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
    """A counter that moves every ``period_ms``; faults begin ``fault_at_s`` after the start."""

    clock: Clock
    power_w: float = 300.0
    period_ms: float = 100.0
    call_ms: float = 4.0
    fault: str = ""
    fault_at_s: float = 0.5
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
        counter = self.power_w * 1000 * period_s * int(since_s / period_s)
        return 0.5 * counter if self.fault == "reset" and faulty else counter

    def state(self) -> DeviceState:
        return self.states.pop(0) if self.states else DeviceState(clock_mhz=1980)
