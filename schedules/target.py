"""What a kernel is compiled for: kind, architecture, and the limits of one device.

Plain data; nothing here touches a device. Detection lives in
``effcompile.measure.environment``, the translation to TVM in ``schedules._tvm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schedules.errors import UnknownTarget

FIRST_WITH_ASYNC_COPIES = 80
FIRST_WITH_CLUSTERS = 90
PORTABLE_CLUSTER = 8
"""Blocks that any device with clusters runs together."""
LARGER_CLUSTERS = {"sm_90": 16, "sm_100": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of device, with the limits that decide what can launch on it.

    Attributes:
        kind: ``cuda`` or ``llvm``.
        arch: ``sm_90`` style for CUDA; the LLVM ``-mcpu`` name for CPUs.
        name: Name of the device as its driver or operating system gives it.
        n_cores: Streaming multiprocessors, or CPU cores used by a kernel.
        max_threads_per_block: CUDA only, else 0.
        shared_memory_per_block_bytes: Largest dynamic shared memory a block may ask for.
        registers_per_block: 32-bit registers.
        warp_size: Threads in lock step.
        cache_bytes: Last-level cache (L2 on GPUs).
    """

    kind: Literal["cuda", "llvm"]
    arch: str
    name: str
    n_cores: int
    max_threads_per_block: int = 0
    shared_memory_per_block_bytes: int = 0
    registers_per_block: int = 0
    warp_size: int = 0
    cache_bytes: int = 0

    @property
    def capability(self) -> int:
        """Compute capability in tenths, for example 90; 0 for other kinds of device."""
        number = self.arch.removeprefix("sm_").rstrip("af")
        return int(number) if self.kind == "cuda" and number.isdigit() else 0

    @property
    def has_async_copies(self) -> bool:
        """Whether shared memory is filled past the registers: compute capability 8.0 or newer."""
        return self.capability >= FIRST_WITH_ASYNC_COPIES

    @property
    def has_clusters(self) -> bool:
        """Whether blocks can read each other's shared memory: compute capability 9.0 or newer.

        Such devices also copy in bulk, and start a kernel before the one in front has ended.
        """
        return self.capability >= FIRST_WITH_CLUSTERS

    @property
    def is_hopper(self) -> bool:
        """Whether it has warpgroup products, which no other architecture has."""
        return self.kind == "cuda" and self.arch == "sm_90"

    @property
    def largest_cluster(self) -> int:
        """Blocks of a cluster at most; 1 without clusters.

        Source:
            CUDA C++ programming guide, thread block clusters: 8 portably, 16 on some.
        """
        return LARGER_CLUSTERS.get(self.arch, PORTABLE_CLUSTER) if self.has_clusters else 1


def _cuda(name: str, arch: str, n_cores: int, *, shared_kib: int, cache_mib: int) -> Target:
    return Target(
        kind="cuda",
        arch=arch,
        name=name,
        n_cores=n_cores,
        max_threads_per_block=1024,
        shared_memory_per_block_bytes=shared_kib * 1024,
        registers_per_block=65536,
        warp_size=32,
        cache_bytes=cache_mib * 1024 * 1024,
    )


KNOWN_TARGETS: dict[str, Target] = {
    "h200": _cuda("NVIDIA H200", "sm_90", 132, shared_kib=227, cache_mib=60),
    "h100": _cuda("NVIDIA H100 80GB HBM3", "sm_90", 132, shared_kib=227, cache_mib=50),
    "a100": _cuda("NVIDIA A100-SXM4-80GB", "sm_80", 108, shared_kib=163, cache_mib=40),
    "rtx3090": _cuda("NVIDIA GeForce RTX 3090", "sm_86", 82, shared_kib=99, cache_mib=6),
    "l4": _cuda("NVIDIA L4", "sm_89", 58, shared_kib=99, cache_mib=48),
    "rtx4090": _cuda("NVIDIA GeForce RTX 4090", "sm_89", 128, shared_kib=99, cache_mib=72),
    "b200": _cuda("NVIDIA B200", "sm_100", 148, shared_kib=227, cache_mib=126),
    "rtx5090": _cuda("NVIDIA GeForce RTX 5090", "sm_120", 170, shared_kib=99, cache_mib=96),
}


def known_target(name: str) -> Target:
    """The target of a device that need not be present, for example ``h200``.

    Raises:
        UnknownTarget: The name is not in :data:`KNOWN_TARGETS`.
    """
    try:
        return KNOWN_TARGETS[name]
    except KeyError:
        raise UnknownTarget(
            f"unknown target {name!r}: expected auto, cpu, cuda, or one of "
            f"{', '.join(sorted(KNOWN_TARGETS))}."
        ) from None
