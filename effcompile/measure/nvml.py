"""The energy counter of an NVIDIA GPU, through the driver's management library."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from effcompile.errors import MeterDenied, MeterUnavailable
from effcompile.measure.meters import DeviceState

_RIGHTS = "Ask for the right to it; in containers set NVIDIA_DRIVER_CAPABILITIES=compute,utility."
# Work of other processes counts as present this long.
RECENT_S = 1.0


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
        except pynvml.NVMLError_NoPermission as error:
            raise MeterDenied(f"NVML may not be used for GPU {uuid}: {error}. {_RIGHTS}") from None
        except pynvml.NVMLError as error:
            raise MeterUnavailable(
                f"NVML does not serve GPU {uuid}: {error}. Check it with nvidia-smi."
            ) from None
        self.counter_mj()

    def counter_mj(self) -> float:
        """See :class:`Meter`."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError_NoPermission as error:
            raise MeterDenied(
                f"the GPU's energy counter may not be read: {error}. {_RIGHTS}"
            ) from None
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound) as error:
            raise MeterUnavailable(
                f"the GPU has no energy counter: {error}. "
                "It needs a GPU of the Volta generation or newer, and a driver of its time."
            ) from None
        except self._nvml.NVMLError as error:
            raise MeterUnavailable(
                f"the GPU's energy counter cannot be read: {error}. Check it with nvidia-smi."
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
            power_limit_w=_watts(self._read(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
            n_foreign_processes=self._n_foreign(),
        )

    def power_w(self) -> float | None:
        """See :class:`Meter`; the driver's instant power, some 25 ms of the last 100."""
        return self._power_field(self._nvml.NVML_FI_DEV_POWER_INSTANT, 0)

    def memory_power_w(self) -> float | None:
        """See :class:`Meter`; the average of the last second, on Hopper and newer."""
        nvml = self._nvml
        return self._power_field(nvml.NVML_FI_DEV_POWER_AVERAGE, nvml.NVML_POWER_SCOPE_MEMORY)

    def _power_field(self, field: int, scope: int) -> float | None:
        with contextlib.suppress(self._nvml.NVMLError):
            (found,) = self._nvml.nvmlDeviceGetFieldValues(self._handle, [(field, scope)])
            # An unsupported scope answers with success and zero.
            if int(found.nvmlReturn) == 0 and int(found.value.uiVal) > 0:
                return int(found.value.uiVal) / 1000
        return None

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


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
