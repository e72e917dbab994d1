"""Energy meters: a counter of millijoules, and the state of the device around it.

A meter never invents a number: what it cannot read, it says so, and energy stays
unmeasured.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from effcompile.errors import MeterDenied, MeterUnavailable

RECENT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What the device says of itself at one moment.

    Attributes:
        clock_mhz: SM clock; ``None`` if unknown.
        memory_clock_mhz: Memory clock; ``None`` if unknown.
        temperature_c: Device temperature; ``None`` if unknown.
        throttle_reasons: Names of active clock-event reasons.
        n_foreign_processes: Other compute processes on the device.
    """

    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    throttle_reasons: tuple[str, ...] = ()
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


class NvmlMeter:
    """Board energy of one NVIDIA GPU, found by its UUID; its counter moves about every 100 ms."""

    name = "nvml"
    period_ms = 100.0
    _REASONS = (
        ("sw_power_cap", "nvmlClocksThrottleReasonSwPowerCap"),
        ("hw_slowdown", "nvmlClocksThrottleReasonHwSlowdown"),
        ("sw_thermal", "nvmlClocksThrottleReasonSwThermalSlowdown"),
        ("hw_thermal", "nvmlClocksThrottleReasonHwThermalSlowdown"),
        ("hw_power_brake", "nvmlClocksThrottleReasonHwPowerBrakeSlowdown"),
    )

    def __init__(self, uuid: str) -> None:
        try:
            import pynvml
        except ImportError:
            raise MeterUnavailable(
                "the NVML bindings are not installed. Install: pip install nvidia-ml-py"
            ) from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            raise MeterUnavailable(f"NVML does not serve GPU {uuid}: {error}.") from None
        self.counter_mj()

    def counter_mj(self) -> float:
        """See :class:`Meter`."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError_NoPermission as error:
            raise MeterDenied(f"the GPU's energy counter may not be read: {error}.") from None
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(
                f"the GPU's energy counter cannot be read: {error}. "
                "It needs a GPU of the Volta generation or newer."
            ) from None

    def state(self) -> DeviceState:
        """See :class:`Meter`."""
        nvml, handle = self._nvml, self._handle
        reasons = self._read(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
        return DeviceState(
            clock_mhz=self._read(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._read(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            temperature_c=self._read(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            throttle_reasons=tuple(
                name for name, constant in self._REASONS if reasons & getattr(nvml, constant, 0)
            ),
            n_foreign_processes=self._n_foreign(),
        )

    def _read(self, function: Any, *arguments: Any) -> int | None:
        with contextlib.suppress(self._nvml.NVMLError):
            return int(function(*arguments))
        return None

    def _n_foreign(self) -> int:
        """Other processes that computed on the device in the last second.

        A context that only exists draws no power worth a refusal; where the driver cannot
        tell who computes, every other process counts.
        """
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return 0
        listed = {int(process.pid) for process in processes}
        busy = self._busy_processes()
        suspects = listed if busy is None else listed & busy
        others = suspects - {os.getpid()}
        # In a container the driver may list ids of another namespace: one of them is ours.
        hidden = bool(others) and os.getpid() not in listed
        return len(others) - 1 if hidden else len(others)

    def _busy_processes(self) -> set[int] | None:
        """Processes with work on the multiprocessors lately; ``None`` if the driver cannot tell."""
        since_us = int((time.time() - RECENT_S) * 1e6)
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since_us)
        except self._nvml.NVMLError_NotFound:
            return set()
        except self._nvml.NVMLError:
            return None
        return {int(sample.pid) for sample in samples if sample.smUtil > 0}


class RaplMeter:
    """Energy of the processor packages, from Linux's powercap interface.

    Args:
        root: Folder of the interface.
    """

    name = "rapl"
    period_ms = 1.0

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._domains = [_Domain(path) for path in _package_folders(root)]
        if not self._domains:
            raise MeterUnavailable(f"no processor energy counter under {root}.")

    def counter_mj(self) -> float:
        """See :class:`Meter`."""
        return sum(domain.total_uj() for domain in self._domains) / 1000

    def state(self) -> DeviceState:
        """See :class:`Meter`; the interface knows energy only."""
        return DeviceState()


def _package_folders(root: Path) -> list[Path]:
    found = []
    for path in sorted(root.glob("*-rapl:*")):
        with contextlib.suppress(OSError):
            if (path / "name").read_text().startswith("package"):
                found.append(path)
    return found


class _Domain:
    """One wrapping counter, made monotonic. Must be read at least once per wrap (minutes)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self._last_uj = self._read()
        self._total_uj = 0

    def _read(self) -> int:
        try:
            return int(self._path.read_text())
        except PermissionError:
            raise MeterDenied(
                f"{self._path} may not be read by this user. "
                f"Give the right to read it: sudo chmod a+r {self._path}"
            ) from None
        except OSError as error:
            raise MeterUnavailable(f"{self._path} cannot be read: {error.strerror}.") from None

    def total_uj(self) -> int:
        now_uj = self._read()
        self._total_uj += (now_uj - self._last_uj) % (self._range_uj + 1)
        self._last_uj = now_uj
        return self._total_uj


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
    }
