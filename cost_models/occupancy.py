"""How many blocks of a kernel one multiprocessor holds at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedules.stats import KernelResources
from schedules.target import Target

_WARP = 32
_REGISTER_STEP = 256
"""Registers are handed out to whole warps in steps of this many."""

_SHARED_STEP_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreLimits:
    """What one multiprocessor has.

    Attributes:
        threads: Threads resident at a time.
        blocks: Blocks resident at a time.
        shared_bytes: Shared memory for all of them.
        reserved_bytes: Shared memory that the driver takes from each block's share.

    Source:
        CUDA C++ programming guide, technical specifications per compute capability.
    """

    threads: int
    blocks: int
    shared_bytes: int
    reserved_bytes: int = 1024


_LIMITS = {
    "sm_80": CoreLimits(threads=2048, blocks=32, shared_bytes=164 * 1024),
    "sm_86": CoreLimits(threads=1536, blocks=16, shared_bytes=100 * 1024),
    "sm_89": CoreLimits(threads=1536, blocks=24, shared_bytes=100 * 1024),
    "sm_90": CoreLimits(threads=2048, blocks=32, shared_bytes=228 * 1024),
    "sm_100": CoreLimits(threads=2048, blocks=32, shared_bytes=228 * 1024),
    "sm_120": CoreLimits(threads=1536, blocks=24, shared_bytes=100 * 1024),
}


def core_limits(target: Target) -> CoreLimits:
    """Limits of a target's multiprocessor; those of its largest block where it is unknown."""
    known = _LIMITS.get(target.arch.rstrip("af"))
    if known is not None:
        return known
    return CoreLimits(
        threads=2048,
        blocks=32,
        shared_bytes=target.shared_memory_per_block_bytes,
        reserved_bytes=0,
    )


def blocks_per_core(kernel: KernelResources, target: Target) -> int:
    """Blocks that fit one multiprocessor together; 0 if not even one does."""
    own = core_limits(target)
    threads = max(1, math.prod(kernel.block))
    warps = math.ceil(threads / _WARP)
    fits = [own.blocks, own.threads // (warps * _WARP)]
    if kernel.registers_per_thread and target.registers_per_block:
        per_warp = _rounded(kernel.registers_per_thread * _WARP, _REGISTER_STEP)
        fits.append(target.registers_per_block // (per_warp * warps))
    shared = (kernel.static_shared_bytes or 0) + kernel.dynamic_shared_bytes
    if own.shared_bytes:
        needed = _rounded(shared, _SHARED_STEP_BYTES) + own.reserved_bytes
        if needed:
            fits.append(own.shared_bytes // needed)
    return max(0, min(fits))


def _rounded(value: int, step: int) -> int:
    return math.ceil(value / step) * step
