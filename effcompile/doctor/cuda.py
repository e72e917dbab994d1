"""Checks of GPUs, their driver, compiler and energy counter. No CUDA context is left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from effcompile.doctor.check import Check, fail, ok, warn
from effcompile.errors import DeviceUnavailable, MeterUnavailable
from effcompile.measure import toolkit
from effcompile.measure.cuda_facts import gpu_facts

_CHILD_TIMEOUT_S = 120
_RUNTIME_TRIAL = """
from effcompile.runtime_libraries import CUDA_DEVICE_TYPE, compute_version, device_exists
from effcompile.runtime_libraries import load_cuda_runtime
load_cuda_runtime()
print(compute_version(0) if device_exists(CUDA_DEVICE_TYPE, 0) else "no device")
"""
_NVRTC_TRIAL = """
from cuda.bindings import nvrtc
error, major, minor = nvrtc.nvrtcVersion()
assert int(error) == 0, error
print(f"NVRTC {major}.{minor}")
"""
_NO_GPU = "no NVIDIA GPU"
_RIGHTS = (
    "make nvidia-smi work for this user; in containers set "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Devices:
    """What the driver's management library shows.

    Attributes:
        handles: NVML handles of every GPU.
        trouble: Why there are none; empty if the library works.
    """

    handles: list[Any] = field(default_factory=list)
    trouble: str = ""


@contextmanager
def _devices() -> Iterator[_Devices]:
    """Every GPU that NVML shows, or why it shows none."""
    try:
        import pynvml
    except ImportError:
        yield _Devices(trouble="the NVML bindings are missing: pip install nvidia-ml-py")
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield _Devices(trouble=f"NVML: {error}")
        return
    try:
        yield _listed(pynvml)
    finally:
        pynvml.nvmlShutdown()


def _listed(pynvml: Any) -> _Devices:
    try:
        indices = range(pynvml.nvmlDeviceGetCount())
        return _Devices(handles=[pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices])
    except pynvml.NVMLError as error:
        return _Devices(trouble=f"NVML: {error}")


def _cuda_name() -> str:
    """The first GPU as the CUDA driver names it, without NVML; empty if there is none."""
    try:
        return gpu_facts().name
    except DeviceUnavailable:
        return ""


def gpu() -> Check:
    """GPUs that the driver shows."""
    with _devices() as devices:
        names = [_told("nvmlDeviceGetName", handle) for handle in devices.handles]
        driver = _told("nvmlSystemGetDriverVersion") if names else ""
    if names:
        return ok("GPU", f"{', '.join(names)}; driver {driver}")
    if name := _cuda_name():
        return warn(
            "GPU",
            f"{name}, of which the management library tells nothing ({devices.trouble or 'NVML'})",
            f"Latency can be tuned, energy cannot be measured. To mend it: {_RIGHTS}",
        )
    why = f" ({devices.trouble})" if devices.trouble else ""
    advice = "The CPU target works; for CUDA install NVIDIA's driver."
    return warn("GPU", f"{_NO_GPU}{why}", advice)


def runtime_library() -> Check:
    """The runtime that CUDA artifacts need, tried in a child process."""
    name = "CUDA runtime"
    with _devices() as devices:
        if not devices.handles and not _cuda_name():
            return ok(name, f"not needed: {_NO_GPU}")
    child = _child(_RUNTIME_TRIAL)
    if child.returncode != 0:
        return fail(name, _cause(child.stderr), "Install: pip install nvidia-cuda-runtime")
    told = child.stdout.strip()
    if told == "no device":
        return fail(
            name,
            "the driver lists a GPU, the CUDA runtime does not reach it",
            "Check CUDA_VISIBLE_DEVICES, the driver's version, and the rights on /dev/nvidia*.",
        )
    return ok(name, f"device 0 reached, compute capability {told}")


def compiler() -> Check:
    """What turns CUDA sources into machine code; it needs no GPU."""
    name = "CUDA compiler"
    child = _child(_NVRTC_TRIAL)
    if child.returncode == 0:
        return ok(name, child.stdout.strip())
    advice = "For the CUDA target install: pip install 'effcompile[cuda]'"
    nvcc = toolkit.nvcc_path()
    if nvcc is not None:
        return warn(name, f"{nvcc}, but no NVRTC: builds take longer", advice)
    return warn(name, "neither NVRTC nor nvcc", advice)


def gpu_energy() -> Check:
    """Whether the energy counter of every GPU may be read."""
    name = "GPU energy"
    with _devices() as devices:
        if not devices.handles and not _cuda_name():
            return ok(name, f"not measured: {_NO_GPU}")
        try:
            found = _counters(devices)
        except MeterUnavailable as error:
            advice = f"Energy stays unmeasured and latency alone is tuned. To mend it: {_RIGHTS}"
            return warn(name, str(error), advice)
    return ok(name, found)


def _counters(devices: _Devices) -> str:
    import pynvml

    from effcompile.doctor.meter_text import idle_text
    from effcompile.measure.nvml import NvmlMeter

    if devices.trouble:
        raise MeterUnavailable(devices.trouble)
    try:
        uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in devices.handles]
    except pynvml.NVMLError as error:
        raise MeterUnavailable(f"NVML does not identify the GPU: {error}") from None
    return "; ".join(idle_text(NvmlMeter(uuid)) for uuid in uuids)


def other_processes() -> Check:
    """Foreign work on a GPU disturbs latency and energy."""
    name = "other GPU work"
    with _devices() as devices:
        if not devices.handles:
            return ok(name, "none")
        import pynvml

        try:
            running = [
                f"pid {process.pid} on GPU {index}"
                for index, handle in enumerate(devices.handles)
                for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            ]
        except pynvml.NVMLError as error:
            advice = f"Make sure that nothing else computes on the GPU, or {_RIGHTS}"
            return warn(name, f"not told: {error}", advice)
    if running:
        return warn(name, ", ".join(running), "Stop them, or expect refused measurements.")
    return ok(name, "none")


def _child(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=_CHILD_TIMEOUT_S,
        check=False,
    )


def _cause(stderr: str) -> str:
    """The message of the error a child ended with, without its class."""
    line = (stderr.strip().splitlines() or ["no message"])[-1]
    error, _, message = line.partition(": ")
    return message if message and error.rpartition(".")[2].isidentifier() else line


def _told(function: str, *arguments: Any) -> str:
    """A text from NVML, or the reason why it does not give one."""
    import pynvml

    try:
        return _text(getattr(pynvml, function)(*arguments))
    except pynvml.NVMLError as error:
        return f"unknown ({error})"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
