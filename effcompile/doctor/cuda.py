"""Checks of GPUs, their driver, compiler and energy counter. No CUDA context is left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from effcompile.doctor.check import Check, fail, ok, warn
from effcompile.measure import toolkit

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


@contextmanager
def _devices() -> Iterator[list[Any]]:
    """NVML handles of every GPU; empty without a driver or a GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield []
        return
    try:
        count = pynvml.nvmlDeviceGetCount()
        yield [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    finally:
        pynvml.nvmlShutdown()


def gpu() -> Check:
    """GPUs that the driver shows."""
    import pynvml

    with _devices() as devices:
        if not devices:
            return warn("GPU", _NO_GPU, "The CPU target works; for CUDA install NVIDIA's driver.")
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        names = ", ".join(_text(pynvml.nvmlDeviceGetName(device)) for device in devices)
    return ok("GPU", f"{names}; driver {driver}")


def runtime_library() -> Check:
    """The runtime that CUDA artifacts need, tried in a child process."""
    name = "CUDA runtime"
    with _devices() as devices:
        if not devices:
            return ok(name, f"not needed: {_NO_GPU}")
    child = _child(_RUNTIME_TRIAL)
    if child.returncode != 0:
        return fail(name, _last_line(child.stderr), "Install: pip install nvidia-cuda-runtime")
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
    import pynvml

    from effcompile.doctor.meter_text import idle_text
    from effcompile.errors import MeterUnavailable
    from effcompile.measure.nvml import NvmlMeter

    name = "GPU energy"
    with _devices() as devices:
        if not devices:
            return ok(name, f"not measured: {_NO_GPU}")
        uuids = [_text(pynvml.nvmlDeviceGetUUID(device)) for device in devices]
        found = []
        for uuid in uuids:
            try:
                found.append(idle_text(NvmlMeter(uuid)))
            except MeterUnavailable as error:
                return warn(
                    name,
                    str(error),
                    "Energy stays unmeasured and latency alone is tuned. The counter needs a "
                    "Volta or newer GPU and, in containers, the driver's utility capability.",
                )
    return ok(name, "; ".join(found))


def other_processes() -> Check:
    """Foreign work on a GPU disturbs latency and energy."""
    import pynvml

    name = "other GPU work"
    with _devices() as devices:
        running = [
            f"pid {process.pid} on GPU {index}"
            for index, device in enumerate(devices)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device)
        ]
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


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
