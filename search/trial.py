"""Trials and measurements: what the search remembers, with units and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from schedules.candidate import Candidate
from schedules.stats import KernelStats

NEAR_LIMIT = 0.25
"""A mean power further from the limit than this share was not set by it."""


class TrialState(str, Enum):
    """How a trial ended. Only ``OK`` may win or train a model."""

    PROPOSED = "proposed"
    OK = "ok"
    REJECTED = "rejected"
    BUILD_ERROR = "build_error"
    BUILD_TIMEOUT = "build_timeout"
    RUN_ERROR = "run_error"
    RUN_TIMEOUT = "run_timeout"
    WRONG_RESULT = "wrong_result"
    INVALID_MEASUREMENT = "invalid_measurement"
    CANCELLED = "cancelled"


class Verdict(str, Enum):
    """Whether a measurement may be used, and if not, why."""

    OK = "ok"
    POWER_CAPPED = "power_capped"
    UNMEASURED = "unmeasured"
    COUNTER_STALLED = "counter_stalled"
    COUNTER_RESET = "counter_reset"
    CLOCK_CHANGED = "clock_changed"
    TOO_SHORT = "too_short"
    UNSTABLE = "unstable"
    FOREIGN_LOAD = "foreign_load"
    NO_PERMISSION = "no_permission"
    METER_LOST = "meter_lost"
    LIMIT_CHANGED = "limit_changed"
    UNSETTLED = "unsettled"
    DRIFTED = "drifted"

    @property
    def usable(self) -> bool:
        """True if the number may win a comparison or train a model."""
        return self in (Verdict.OK, Verdict.POWER_CAPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Time of one launch of a workload.

    Attributes:
        latency_us: Median over repeats, microseconds per launch.
        ci95_us: Half width of the 95 % interval of the median.
        n_repeats: Independent repeats, each averaging ``n_launches``.
        n_launches: Launches per repeat.
        cache: ``hot`` (same buffers) or ``cold`` (rotating over twice the last-level cache).
        method: ``graph``, ``queue`` or ``loop``.
        verdict: Whether the number may be used.
    """

    latency_us: float
    ci95_us: float
    n_repeats: int
    n_launches: int
    cache: str
    method: str
    verdict: Verdict = Verdict.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """State of the device at the start and at the end of a window.

    Attributes:
        clock_mhz: SM clock; empty if unknown.
        memory_clock_mhz: Memory clock; empty if unknown.
        temperature_c: Device temperature.
        throttle_reasons: Names of the driver's active clock-event reasons.
        power_limit_w: Power that the device may draw; empty if unknown.
    """

    clock_mhz: tuple[int, ...] = ()
    memory_clock_mhz: tuple[int, ...] = ()
    temperature_c: tuple[int, ...] = ()
    throttle_reasons: tuple[str, ...] = ()
    power_limit_w: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyMeasurement:
    """Energy of one launch, averaged over one window.

    Attributes:
        energy_mj: Energy per launch, millijoules; ``None`` if not usable.
        ci95_mj: Half width of the 95 % interval.
        power_w: Mean power over the window, watts.
        sustained_latency_us: Time per launch inside the window.
        window_ms: Length from counter step to counter step.
        window_energy_mj: Energy the window itself spent.
        n_steps: Visible steps of the counter inside the window.
        load_ms: Load in all, from the first reading on: window, and waiting for it.
        anchor_mj: Energy of the anchor kernel, the nearest one measured before; ``None``
            without anchors.
        drift: The anchor's energy now over that of the run's first anchor, where the
            difference is more than noise. Power and energies are divided by it.
        meter: ``nvml``, ``rapl``, ``none``, ``simulated``.
        cache: ``hot`` or ``cold``.
        conditions: Device state around the window.
        verdict: Why the number may, or may not, be used.
        reason: One sentence for people when it may not.
    """

    energy_mj: float | None
    ci95_mj: float | None = None
    power_w: float | None = None
    sustained_latency_us: float | None = None
    window_ms: float = 0.0
    window_energy_mj: float = 0.0
    n_steps: int = 0
    load_ms: float = 0.0
    anchor_mj: float | None = None
    drift: float = 1.0
    meter: str
    cache: str = "hot"
    conditions: Conditions = field(default_factory=Conditions)
    verdict: Verdict
    reason: str = ""

    @property
    def steady_mj(self) -> float | None:
        """Energy of one launch once the device's power controller has come to rest.

        At the power limit the controller swings around it as long as the load lasts: windows of
        one kernel show 565 W and a low clock, or 790 W and a high one. Time then goes with power
        to the -0.444 (:mod:`cost_models.power_limit`), so ``energy * time`` stays nearly what it
        was: windows of 300 ms scatter by 5 % in energy and by 0.6 % in its root. At rest
        ``energy = limit * time``, and with the product that gives both. Elsewhere it is the
        measured energy.
        """
        limit_w = self._limit_w
        if limit_w is None or self.energy_mj is None or self.sustained_latency_us is None:
            return self.energy_mj
        return math.sqrt(self.energy_mj * limit_w * self.sustained_latency_us * 1e-3)

    @property
    def steady_latency_us(self) -> float | None:
        """Time per launch that goes with :attr:`steady_mj`."""
        if self._limit_w is None or self.steady_mj is None or self.sustained_latency_us is None:
            return self.sustained_latency_us
        return self.steady_mj / self._limit_w * 1e3

    def lasting_us(self, burst_us: float) -> float | None:
        """Time per launch under lasting load, seen beside that of short bursts.

        Lasting load is slower than a burst at the power limit alone: a window away from it that
        says so was disturbed, and the burst is believed.
        """
        lasting = self.steady_latency_us
        if lasting is None or self.verdict is not Verdict.OK:
            return lasting
        return min(lasting, burst_us)

    @property
    def _limit_w(self) -> float | None:
        """The power limit, if the whole window was spent around it."""
        limits_w = self.conditions.power_limit_w
        if not limits_w or self.power_w is None or self.verdict is not Verdict.POWER_CAPPED:
            return None
        is_near = abs(self.power_w / limits_w[-1] - 1.0) < NEAR_LIMIT
        return limits_w[-1] if is_near else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A candidate turned into a library.

    Attributes:
        library_path: Shared library that the runner loads.
        binary_id: Content id of machine code and launch geometry; equal ids run equally.
        stats: Compiler numbers, launch geometry, counts.
        build_s: Seconds the build took, 0 if it came from the cache.
        from_cache: Whether it did.
    """

    library_path: str
    binary_id: str
    stats: KernelStats
    build_s: float
    from_cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a trial did not reach ``OK``.

    Attributes:
        state: The state it ended in.
        message: First lines of the cause.
        log_path: Full log, if one was written.
    """

    state: TrialState
    message: str
    log_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One attempt to build and measure one candidate; immutable once finished.

    Attributes:
        trial_id: 1, 2, ... in the order of proposal, over the whole run.
        task_id: Task it belongs to.
        round_index: Round of that task, from 0.
        origin: ``default``, ``sample``, ``mutate`` or another word of the strategy.
        candidate: What was tried.
        state: How it ended.
        build: Present once built.
        latency: Present once timed.
        failure: Present in every state but ``PROPOSED`` and ``OK``.
        same_as: Trial whose identical binary was measured instead.
        spent_s: Wall seconds for build, check and timing.
        loop_s: Seconds of planning, of waiting for builds, and of timing that the loop took since
            the trial that it finished before; those of a session add up. ``None`` if not recorded.
    """

    trial_id: int
    task_id: str
    round_index: int
    origin: str
    candidate: Candidate
    state: TrialState = TrialState.PROPOSED
    build: Build | None = None
    latency: LatencyMeasurement | None = None
    failure: Failure | None = None
    same_as: int | None = None
    spent_s: float = 0.0
    loop_s: float | None = None
    schema_version: int = 1
