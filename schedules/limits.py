"""Rejects launches that cannot fit a device: estimates before building, facts after it."""

from __future__ import annotations

import math

from schedules.errors import IllegalCandidate
from schedules.stats import KernelResources, KernelStats
from schedules.target import Target

MOST_REGISTERS_PER_THREAD = 255
GRANTED_SHARED_BYTES = 48 * 1024
"""What a block gets, static and dynamic together, without asking."""


def launch_refusal(
    target: Target,
    *,
    threads_per_block: int,
    registers_per_thread: int,
    shared_bytes: int = 0,
) -> str | None:
    """Why a block cannot run on a CUDA target, ``None`` if it can.

    Args:
        target: The device's limits.
        threads_per_block: Threads of one block.
        registers_per_thread: An estimate; the compiler has the last word.
        shared_bytes: Static and dynamic shared memory of one block.
    """
    checks = (
        ("threads per block", threads_per_block, target.max_threads_per_block),
        ("registers per thread", registers_per_thread, MOST_REGISTERS_PER_THREAD),
        (
            "registers per block",
            registers_per_thread * threads_per_block,
            target.registers_per_block,
        ),
        ("bytes of shared memory per block", shared_bytes, target.shared_memory_per_block_bytes),
    )
    for what, needed, available in checks:
        if needed > available:
            return f"{needed} {what} are needed, {target.name} has {available}"
    if threads_per_block % target.warp_size:
        return f"{threads_per_block} threads per block are no multiple of {target.warp_size}"
    return None


def require_launchable(stats: KernelStats, target: Target) -> None:
    """Refuse a built candidate that the device would refuse to launch.

    A failed launch costs the device process; the compiler's numbers tell beforehand.

    Raises:
        IllegalCandidate: Threads, registers or shared memory exceed a limit.
    """
    for kernel in stats.kernels:
        refusal = _refusal_of(kernel, target)
        if refusal:
            raise IllegalCandidate(f"kernel {kernel.name} cannot launch: {refusal}.")


def _refusal_of(kernel: KernelResources, target: Target) -> str | None:
    n_threads = math.prod(kernel.block)
    shared_bytes = (kernel.static_shared_bytes or 0) + kernel.dynamic_shared_bytes
    checks = (
        ("threads per block", n_threads, target.max_threads_per_block),
        (
            "registers per block",
            (kernel.registers_per_thread or 0) * n_threads,
            target.registers_per_block,
        ),
        ("bytes of shared memory per block", shared_bytes, target.shared_memory_per_block_bytes),
    )
    for what, needed, available in checks:
        if needed > available:
            return f"{needed} {what} are needed, {target.name} has {available}"
    if kernel.dynamic_shared_bytes < GRANTED_SHARED_BYTES < shared_bytes:
        return (
            f"{shared_bytes} bytes of shared memory are needed, of which "
            f"{kernel.dynamic_shared_bytes} are dynamic: TVM's runtime asks for more than "
            f"{GRANTED_SHARED_BYTES} only for kernels whose dynamic part alone is larger"
        )
    return None
