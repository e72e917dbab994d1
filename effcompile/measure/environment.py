"""Which device is here, and what decides whether two measurements are comparable."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

from effcompile.config import MeasureConfig
from effcompile.errors import DeviceUnavailable
from effcompile.measure.cuda_facts import GpuFacts, gpu_facts, kernel_driver_version
from effcompile.measure.meters import require_meter
from schedules.target import Target, known_target

# Raised when numbers taken before and after a change of this package are not comparable.
MEASURE_VERSION = 4

_X86_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"}),
    ("x86-64-v2", {"sse4_2", "ssse3", "popcnt", "cx16"}),
)
# Where the system does not say: larger than most, so "cold" errs on the safe side.
_FALLBACK_CACHE_BYTES = 64 << 20
_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "numpy")
_CUDA_PACKAGES = ("cuda-bindings", "nvidia-cuda-nvrtc")


def detect_target(name: str = "auto") -> Target:
    """The target of a name: ``auto``, ``cpu``, ``cuda``, or a GPU known by name.

    ``auto`` is the first CUDA GPU if a usable one is found, else this computer's CPU.

    Raises:
        UnknownTarget: The name means nothing.
        DeviceUnavailable: ``cuda`` was asked for, and no usable GPU is here.
    """
    if name == "cpu":
        return cpu_target()
    if name == "cuda":
        return cuda_target(gpu_facts())
    if name == "auto":
        with contextlib.suppress(DeviceUnavailable):
            return cuda_target(gpu_facts())
        return cpu_target()
    return known_target(name)


def require_device(target: Target) -> None:
    """Refuse to tune for a GPU that is not here.

    Raises:
        DeviceUnavailable: There is no GPU, or one of another architecture.
    """
    if target.kind != "cuda":
        return
    found = cuda_target(gpu_facts())
    if found.arch != target.arch:
        raise DeviceUnavailable(
            f"cannot tune for {target.name} ({target.arch}): the GPU here is {found.name} "
            f"({found.arch}). Use --target cuda, or run this where the other GPU is."
        )


def require_meter_for(target: Target, config: MeasureConfig) -> None:
    """Refuse to go on without a meter that the settings name.

    Raises:
        MeterUnavailable: It is not here, does not see the target, or may not be read.
    """
    uuid = gpu_facts().uuid if target.kind == "cuda" and config.meter == "nvml" else None
    require_meter(config.meter, kind=target.kind, gpu_uuid=uuid)


def cuda_target(facts: GpuFacts) -> Target:
    """The target of a GPU."""
    values = facts.attributes
    return Target(
        kind="cuda",
        arch=f"sm_{values['capability_major']}{values['capability_minor']}",
        name=facts.name,
        n_cores=values["n_multiprocessors"],
        max_threads_per_block=values["max_threads_per_block"],
        shared_memory_per_block_bytes=values["shared_memory_per_block_optin_bytes"],
        registers_per_block=values["registers_per_block"],
        warp_size=values["warp_size"],
        cache_bytes=values["l2_cache_bytes"],
    )


def cpu_target() -> Target:
    """This computer's CPU: the cores this process may use, and a portable level of it."""
    info = _cpu_info()
    return Target(
        kind="llvm",
        arch=cpu_level(set(info.get("flags", "").split())),
        name=info.get("model name") or platform.processor() or platform.machine(),
        n_cores=_n_cores(),
        cache_bytes=_last_level_cache_bytes(),
    )


def cpu_level(flags: set[str]) -> str:
    """The highest x86-64 level whose instructions are all there; ``generic`` elsewhere."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "generic"
    for level, needed in _X86_LEVELS:
        if needed <= flags:
            return level
    return "x86-64"


def _cpu_info() -> dict[str, str]:
    info: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    return info


def _n_cores() -> int:
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Two threads of one core share its arithmetic units: kernels gain nothing from both.
    physical = psutil.cpu_count(logical=False) or allowed or 1
    return max(1, min(allowed or 1, physical))


def _last_level_cache_bytes() -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            text = path.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) * units.get(text[-1], 1))
    return max(sizes, default=_FALLBACK_CACHE_BYTES)


def fingerprint(target: Target) -> dict[str, str]:
    """What two runs must share for their numbers to be comparable.

    Args:
        target: The device measured; one that is not here is described by its name only.
    """
    facts = {
        "device": target.name,
        "arch": target.arch,
        "n_cores": str(target.n_cores),
        "measure_version": str(MEASURE_VERSION),
    }
    packages = list(_PACKAGES)
    if target.kind == "cuda":
        packages += _CUDA_PACKAGES
        facts |= _gpu_identity(target)
    else:
        facts["system"] = f"{platform.system()} {platform.machine()}"
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts


def _gpu_identity(target: Target) -> dict[str, str]:
    with contextlib.suppress(DeviceUnavailable):
        gpu = gpu_facts()
        if gpu.name == target.name:
            return {
                "gpu_uuid": gpu.uuid,
                "driver": kernel_driver_version(),
                "driver_cuda": gpu.driver_version,
            }
    return {}
