"""Whether an artifact can run on a device that is here, said before it is tried."""

from __future__ import annotations

import re
from pathlib import Path

from effcompile.errors import BadArtifact, DeviceUnavailable, UsageError
from effcompile.runtime_libraries import (
    CUDA_DEVICE_TYPE,
    compute_version,
    device_exists,
    load_cuda_runtime,
)
from schedules.target import Target

_DEVICE = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")
_LEVEL_FLAGS = {
    "x86-64-v2": {"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


def resolve_device(target: Target, device: str, *, artifact: Path) -> str:
    """``cpu`` or ``cuda:N`` to run on, with its runtime library loaded.

    Raises:
        UsageError: ``device`` is no device name.
        DeviceUnavailable: The artifact is for another kind of device, or there is none here.
    """
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise UsageError(f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N.")
    built_for = "cuda" if target.kind == "cuda" else "cpu"
    wanted = built_for if device == "auto" else device.partition(":")[0]
    if wanted != built_for:
        raise DeviceUnavailable(
            f"cannot run artifact {artifact} on {device}: it was compiled for {target.name} "
            f"({built_for}). Build it again with --target {wanted}."
        )
    if wanted == "cpu":
        return "cpu"
    load_cuda_runtime()
    index = int(match.group(1) or 0)
    if not device_exists(CUDA_DEVICE_TYPE, index):
        raise DeviceUnavailable(
            f"cannot run artifact {artifact}: no CUDA device {index} is usable here. "
            "Check with: effcompile doctor"
        )
    return f"cuda:{index}"


def check_architecture(target: Target, device: str, *, artifact: Path) -> None:
    """Refuse machine code that the device does not understand.

    Raises:
        BadArtifact: Found and expected architecture are in the message.
    """
    if target.kind == "cuda":
        found = "sm_" + compute_version(int(device.partition(":")[2])).replace(".", "")
        fits = cuda_code_runs(built_for=target.arch, device=found)
    else:
        lacking = missing_cpu_flags(target.arch, _cpu_flags())
        found = f"a CPU without {', '.join(sorted(lacking))}"
        fits = not lacking
    if not fits:
        raise BadArtifact(
            f"cannot run artifact {artifact}: it was compiled for {target.arch} ({target.name}), "
            f"found {found}. Build it again for this device."
        )


def cuda_code_runs(*, built_for: str, device: str) -> bool:
    """Whether a device runs machine code of an architecture.

    Code runs on its own major version and on the same or a later minor one; an
    architecture with a letter, such as ``sm_90a``, on exactly that one.
    """
    code = re.fullmatch(r"sm_(\d+)(\d)([a-z]?)", built_for)
    here = re.fullmatch(r"sm_(\d+)(\d)", device)
    if code is None or here is None:
        return False
    same_major = code.group(1) == here.group(1)
    if code.group(3) == "a":
        return same_major and code.group(2) == here.group(2)
    return same_major and int(here.group(2)) >= int(code.group(2))


def missing_cpu_flags(arch: str, flags: frozenset[str]) -> set[str]:
    """Instruction sets that a level such as ``x86-64-v3`` needs and a CPU lacks.

    Other architecture names, and a system that does not tell its flags, are let through: an
    unfit library is then refused by the loader or by its first instruction.
    """
    levels = list(_LEVEL_FLAGS)
    if arch not in levels or not flags:
        return set()
    needed = set().union(*(_LEVEL_FLAGS[level] for level in levels[: levels.index(arch) + 1]))
    return needed - flags


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()
