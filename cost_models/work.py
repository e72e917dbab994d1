"""What a built candidate does on the device in total: instructions, bytes, multiply-adds."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np

from schedules.instruction_mix import InstructionMix
from schedules.stats import KernelResources, KernelStats

WORK_NAMES = tuple(
    one.name for one in fields(InstructionMix) if one.name not in ("n_static", "n_unknown_branches")
)
"""Amounts in the order of the arrays of this module."""

NOT_INSTRUCTIONS = ("tensor_macs",)
BYTES_PER_ACCESS = 512.0
"""Bytes of one warp's widest access: byte amounts over it are instructions issued at least."""

_WARP = 32


def work_of(stats: KernelStats) -> np.ndarray:
    """Amounts of one launch of all kernels, by :data:`WORK_NAMES`, float64.

    All nan where the machine code of a kernel was not read.
    """
    parts = [_work_of_kernel(kernel) for kernel in stats.kernels]
    return np.sum(parts, axis=0) if parts else np.full(len(WORK_NAMES), math.nan)


def _work_of_kernel(kernel: KernelResources) -> np.ndarray:
    if kernel.mix is None:
        return np.full(len(WORK_NAMES), math.nan)
    warps = math.prod(kernel.grid) * math.ceil(math.prod(kernel.block) / _WARP)
    # The last warp of a block may be cut short: bytes count lanes, instructions count warps.
    lanes = math.prod(kernel.grid) * math.prod(kernel.block) / _WARP
    amounts = [
        getattr(kernel.mix, name) * (lanes if name.endswith("_bytes") else warps)
        for name in WORK_NAMES
    ]
    return np.array(amounts, dtype=np.float64)


def issued(work: np.ndarray) -> np.ndarray:
    """Instructions issued, from amounts of shape (..., n_names): shape (...)."""
    per_unit = [
        0.0
        if name in NOT_INSTRUCTIONS
        else (1.0 / BYTES_PER_ACCESS if name.endswith("_bytes") else 1.0)
        for name in WORK_NAMES
    ]
    return np.asarray(work @ np.array(per_unit))


def amount(work: np.ndarray, *names: str) -> np.ndarray:
    """Sum of some amounts, from shape (..., n_names): shape (...)."""
    return np.asarray(work[..., [WORK_NAMES.index(name) for name in names]].sum(axis=-1))
