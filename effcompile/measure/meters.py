"""Energy meters: a counter of millijoules, and the state of the device around it.

A meter never invents a number: what it cannot read, it says so, and energy stays
unmeasured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from effcompile.errors import MeterDenied, MeterUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What the device says of itself at one moment.

    Attributes:
        clock_mhz: SM clock; ``None`` if unknown.
        memory_clock_mhz: Memory clock; ``None`` if unknown.
        temperature_c: Device temperature; ``None`` if unknown.
        throttle_reasons: Names of active clock-event reasons.
        power_limit_w: Power that the device may draw; ``None`` if unknown.
        n_foreign_processes: Other compute processes on the device.
    """

    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    power_limit_w: float | None = None
    n_foreign_processes: int = 0


class Meter(Protocol):
    """A counter of energy.

    Attributes:
        name: ``nvml``, ``rapl`` or a double's name.
        period_ms: Time between two visible steps of the counter, about.
    """

    name: str
    period_ms: float

    def counter_mj(self) -> float:
        """Energy since some moment in the past, millijoules.

        Raises:
            MeterUnavailable: The counter can no longer be read.
        """

    def state(self) -> DeviceState:
        """The device's state now; fields that cannot be read stay empty."""

    def power_w(self) -> float | None:
        """Power as the device itself reports it now; ``None`` if it does not."""

    def memory_power_w(self) -> float | None:
        """The memory's part of the power; ``None`` if it is not told apart."""


@dataclass(frozen=True, slots=True)
class NoMeter:
    """Why energy is not measured.

    Attributes:
        reason: One sentence for people.
        denied: A meter is here, and may not be read.
    """

    reason: str
    denied: bool = False


def open_meter(
    wanted: str, *, kind: str, gpu_uuid: str | None = None, rapl_root: Path | None = None
) -> Meter | NoMeter:
    """The meter that was asked for, or the reason why there is none.

    Args:
        wanted: ``auto``, ``nvml``, ``rapl`` or ``none``.
        kind: Kind of target, ``cuda`` or ``llvm``.
        gpu_uuid: Of the GPU that is measured.
        rapl_root: Other place of the powercap interface, for tests.
    """
    if wanted == "none":
        return NoMeter("energy measurement was turned off (meter none).")
    fitting = "nvml" if kind == "cuda" else "rapl"
    if wanted not in ("auto", fitting):
        return NoMeter(f"meter {wanted} does not see a {kind} device; expected {fitting}.")
    from effcompile.measure.nvml import NvmlMeter
    from effcompile.measure.rapl import RaplMeter

    try:
        if fitting == "rapl":
            return RaplMeter(rapl_root) if rapl_root else RaplMeter()
        return NvmlMeter(gpu_uuid or "")
    except MeterUnavailable as error:
        return NoMeter(str(error), denied=isinstance(error, MeterDenied))


def require_meter(
    wanted: str, *, kind: str, gpu_uuid: str | None = None, rapl_root: Path | None = None
) -> None:
    """Refuse to go on without a meter that was asked for by name.

    Args:
        wanted: ``auto``, ``nvml``, ``rapl`` or ``none``.
        kind: Kind of target, ``cuda`` or ``llvm``.
        gpu_uuid: Of the GPU that is measured.
        rapl_root: Other place of the powercap interface, for tests.

    Raises:
        MeterUnavailable: It is not here, or does not see the device.
        MeterDenied: This user may not read it.
    """
    if wanted in ("auto", "none"):
        return
    found = open_meter(wanted, kind=kind, gpu_uuid=gpu_uuid, rapl_root=rapl_root)
    if isinstance(found, NoMeter):
        refused = MeterDenied if found.denied else MeterUnavailable
        raise refused(
            f"cannot measure energy with meter {wanted}: {found.reason} "
            "Mend that, or use --meter auto to go on with latency alone."
        )


def conditions_of(states: Sequence[DeviceState]) -> dict[str, tuple[Any, ...]]:
    """States at several moments as the fields of ``search.trial.Conditions``."""
    return {
        "clock_mhz": tuple(s.clock_mhz for s in states if s.clock_mhz is not None),
        "memory_clock_mhz": tuple(
            s.memory_clock_mhz for s in states if s.memory_clock_mhz is not None
        ),
        "temperature_c": tuple(s.temperature_c for s in states if s.temperature_c is not None),
        "throttle_reasons": tuple(
            dict.fromkeys(reason for s in states for reason in s.throttle_reasons)
        ),
        "power_limit_w": tuple(s.power_limit_w for s in states if s.power_limit_w is not None),
    }
