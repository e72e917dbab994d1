"""What compiler, machine code and launch say of a built candidate, as numbers for a model.

Three groups, named so that an ablation can take one away: ``launch`` (geometry, registers,
occupancy, waves), ``code`` (what the machine code does, whatever the time it takes) and
``rate`` (the same per microsecond and multiprocessor, which needs the measured latency).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from cost_models.occupancy import blocks_per_core, core_limits
from cost_models.work import WORK_NAMES, issued, work_of
from schedules.stats import KernelResources, KernelStats
from schedules.target import Target

FEATURES_VERSION = 3

LAUNCH_NAMES = (
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
    "log_flops",
    "log_bytes",
    "log_memory_bytes",
)
CODE_NAMES = (
    *(f"log_{name}" for name in WORK_NAMES),
    "log_issued",
    "global_over_unique_bytes",
    "issued_per_flop",
    "unknown_branches",
)
RATE_NAMES = (
    "log_latency_us",
    "log_flops_per_us",
    "log_bytes_per_us",
    "log_memory_bytes_per_us",
    "log_threads_per_us",
    "log_issued_per_us",
    *(f"log_{name}_per_us" for name in WORK_NAMES),
)
FEATURE_NAMES = (*LAUNCH_NAMES, *CODE_NAMES, *RATE_NAMES)


def feature_columns(late: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Columns of compiler features by name, shape (n, n_names)."""
    return np.asarray(late[:, [FEATURE_NAMES.index(name) for name in names]])


def compiler_features(stats: KernelStats, *, latency_us: float, target: Target) -> np.ndarray:
    """One row named by :data:`FEATURE_NAMES`; nan where a number is unknown.

    Several device functions are described by the one that launches most threads,
    spills, code and work by their sums. Amounts of work are per multiprocessor.

    Args:
        stats: Compiler numbers of the build.
        latency_us: Measured latency, from which the rates follow; nan gives no rates.
        target: Limits of the device.

    Returns:
        float32, shape (n_features,).
    """
    work = work_of(stats) / max(1, target.n_cores)
    row = [
        *_launch(stats, target),
        *_code(stats, work, target),
        *_rates(stats, work, latency_us, target),
    ]
    return np.array(row, dtype=np.float32)


def _launch(stats: KernelStats, target: Target) -> list[float]:
    launch = _main_launch(stats.kernels, target) if stats.kernels else [math.nan] * 9
    return [
        len(stats.kernels),
        _log(stats.code_bytes),
        *launch,
        _last_wave_share(launch[-1]),
        _log(stats.flops),
        _log(stats.unique_bytes),
        _log(_memory_bytes(stats, target)),
    ]


def _memory_bytes(stats: KernelStats, target: Target) -> float | None:
    """Bytes that cannot stay in the last-level cache from one launch to the next: all of what does
    not fit, because lines are gone by the time they are asked for again.
    """
    if stats.unique_bytes is None:
        return None
    return stats.unique_bytes if stats.unique_bytes > target.cache_bytes else 0.0


def _main_launch(kernels: tuple[KernelResources, ...], target: Target) -> list[float]:
    main = max(kernels, key=_n_threads)
    threads, blocks = math.prod(main.block), math.prod(main.grid)
    per_core = blocks_per_core(main, target)
    return [
        _log(blocks),
        _log(threads),
        _number(main.registers_per_thread),
        _log(_sum_known(kernel.spill_bytes for kernel in kernels)),
        _log(main.stack_bytes),
        _log((main.static_shared_bytes or 0) + main.dynamic_shared_bytes),
        float(per_core),
        min(1.0, per_core * threads / core_limits(target).threads),
        blocks / max(1, per_core * target.n_cores),
    ]


def _code(stats: KernelStats, work: np.ndarray, target: Target) -> list[float]:
    every = float(issued(work)) * max(1, target.n_cores)
    moved = float(
        sum(
            work[WORK_NAMES.index(name)]
            for name in ("global_load_bytes", "global_store_bytes", "async_copy_bytes")
        )
    ) * max(1, target.n_cores)
    unknown = [one.mix.n_unknown_branches for one in stats.kernels if one.mix is not None]
    return [
        *(_log(float(value)) for value in work),
        _log(float(issued(work))),
        moved / stats.unique_bytes if stats.unique_bytes else math.nan,
        every / stats.flops if stats.flops else math.nan,
        float(sum(unknown)) if unknown else math.nan,
    ]


def _rates(stats: KernelStats, work: np.ndarray, latency_us: float, target: Target) -> list[float]:
    return [
        _log(latency_us),
        _log_rate(stats.flops, latency_us),
        _log_rate(stats.unique_bytes, latency_us),
        _log_rate(_memory_bytes(stats, target), latency_us),
        _log_rate(sum(map(_n_threads, stats.kernels)) or None, latency_us),
        _log_rate(float(issued(work)), latency_us),
        *(_log_rate(float(value), latency_us) for value in work),
    ]


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
