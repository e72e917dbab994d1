"""What the compiler and the launch say of a built candidate, as numbers for a model."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from schedules.stats import KernelResources, KernelStats
from schedules.target import Target

FEATURES_VERSION = 1

FEATURE_NAMES = (
    "n_kernels",
    "log_code_bytes",
    "log_blocks",
    "log_threads_per_block",
    "registers_per_thread",
    "log_spill_bytes",
    "log_stack_bytes",
    "log_shared_bytes",
    "blocks_per_core",
    "occupancy",
    "waves",
    "last_wave_share",
    "log_latency_us",
    "log_flops_per_us",
    "log_bytes_per_us",
    "log_threads_per_us",
)

_MAX_THREADS_PER_CORE = 2048
_MAX_BLOCKS_PER_CORE = 32


def compiler_features(stats: KernelStats, *, latency_us: float, target: Target) -> np.ndarray:
    """One row named by :data:`FEATURE_NAMES`; nan where a number is unknown.

    Several device functions are described by the one that launches most threads,
    spills and code by their sums.

    Args:
        stats: Compiler numbers of the build.
        latency_us: Measured latency, from which the rates follow.
        target: Limits of the device.

    Returns:
        float32, shape (n_features,).
    """
    launch = _launch_features(stats.kernels, target) if stats.kernels else [math.nan] * 9
    return np.array(
        [
            len(stats.kernels),
            _log(stats.code_bytes),
            *launch,
            _last_wave_share(launch[-1]),
            _log(latency_us),
            _log_rate(stats.flops, latency_us),
            _log_rate(stats.unique_bytes, latency_us),
            _log_rate(sum(map(_n_threads, stats.kernels)) or None, latency_us),
        ],
        dtype=np.float32,
    )


def _launch_features(kernels: tuple[KernelResources, ...], target: Target) -> list[float]:
    main = max(kernels, key=_n_threads)
    threads, blocks = math.prod(main.block), math.prod(main.grid)
    shared = (main.static_shared_bytes or 0) + main.dynamic_shared_bytes
    per_core = _blocks_per_core(main, threads, shared, target)
    return [
        _log(blocks),
        _log(threads),
        _number(main.registers_per_thread),
        _log(_sum_known(kernel.spill_bytes for kernel in kernels)),
        _log(main.stack_bytes),
        _log(shared),
        float(per_core),
        min(1.0, per_core * threads / _MAX_THREADS_PER_CORE),
        blocks / max(1, per_core * target.n_cores),
    ]


def _blocks_per_core(main: KernelResources, threads: int, shared: int, target: Target) -> int:
    limits = [_MAX_BLOCKS_PER_CORE, _MAX_THREADS_PER_CORE // max(1, threads)]
    if main.registers_per_thread and target.registers_per_block:
        # Registers are handed out to whole warps in steps of 256.
        per_warp = math.ceil(main.registers_per_thread * 32 / 256) * 256
        limits.append(target.registers_per_block // (per_warp * math.ceil(threads / 32)))
    if shared and target.shared_memory_per_block_bytes:
        limits.append(target.shared_memory_per_block_bytes // shared)
    return max(0, min(limits))


def _last_wave_share(waves: float) -> float:
    """How full the last wave of blocks is, in (0, 1]."""
    return math.nan if math.isnan(waves) else waves - math.ceil(waves) + 1.0


def _n_threads(kernel: KernelResources) -> int:
    return math.prod(kernel.grid) * math.prod(kernel.block)


def _sum_known(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _log(value: float | None) -> float:
    return math.nan if value is None else math.log2(1.0 + value)


def _log_rate(amount: float | None, latency_us: float) -> float:
    return math.nan if amount is None else math.log2(1.0 + amount / latency_us)
