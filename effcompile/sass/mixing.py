"""The instruction mix of a kernel: kinds and bytes, times how often each instruction runs."""

from __future__ import annotations

import numpy as np

from effcompile.sass.cubin import KernelCode, kernels_in
from effcompile.sass.opcodes import KINDS, Op
from effcompile.sass.visits import Triple, count_visits
from schedules.instruction_mix import InstructionMix

LANES = 32
_N_OPS = 512
_NEVER = 0xF
"""Guard field of instructions that no lane runs: the negated always-true predicate."""

_NAMES = (*KINDS, "other")
_KIND_OF = np.full(_N_OPS, len(_NAMES) - 1)
for _place, _ops in enumerate(KINDS.values()):
    _KIND_OF[list(_ops)] = _place

_SIZE_BYTES = np.array([1, 1, 2, 2, 4, 8, 16, 16], dtype=np.float64)
"""Bytes per lane by the size field of a memory instruction."""


def mix_in(
    cubin: bytes, kernel: str, *, arch: str, grid: Triple, block: Triple
) -> InstructionMix | None:
    """The mix of one kernel of an image, ``None`` if the image does not hold it.

    Args:
        cubin: ELF image.
        kernel: Symbol.
        arch: ``sm_90`` style; older than ``sm_70`` has another encoding and gives ``None``.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
    """
    code = kernels_in(cubin).get(kernel)
    if code is None or not len(code.words) or not _is_known(arch):
        return None
    return mix_of(code, arch=arch, grid=grid, block=block)


def _is_known(arch: str) -> bool:
    return arch.removeprefix("sm_").rstrip("af") in ("80", "86", "87", "89", "90")


def mix_of(code: KernelCode, *, arch: str, grid: Triple, block: Triple) -> InstructionMix:
    """See :func:`mix_in`."""
    visits = count_visits(code, arch=arch, grid=grid, block=block)
    ops = code.field(0, 9).astype(np.int64)
    runs = np.where(code.field(12, 4) == _NEVER, 0.0, visits.counts)
    kinds = _KIND_OF[ops]
    amounts = runs * np.where(_is_bytes(kinds), LANES * _bytes_per_lane(code, ops), 1.0)
    sums = np.bincount(kinds, weights=amounts, minlength=len(_NAMES))
    return InstructionMix(
        **{name: float(value) for name, value in zip(_NAMES, sums, strict=True)},
        tensor_macs=float(np.sum(runs * _macs_per_warp(code, ops))),
        n_static=len(ops),
        n_unknown_branches=visits.n_unknown_branches,
    )


def _is_bytes(kinds: np.ndarray) -> np.ndarray:
    places = [place for place, name in enumerate(_NAMES) if name.endswith("_bytes")]
    return np.asarray(np.isin(kinds, places))


def _bytes_per_lane(code: KernelCode, ops: np.ndarray) -> np.ndarray:
    """Bytes of memory instructions; anything for the others."""
    is_matrix = (ops == Op.LDSM) | (ops == Op.STSM)
    # A matrix of 8 rows of 16 bytes is 4 bytes per lane; 1, 2 or 4 of them.
    matrices = 4.0 * 2.0 ** code.field(72, 2).astype(np.float64)
    plain = _SIZE_BYTES[code.field(73, 3).astype(np.int64)]
    return np.asarray(np.where(is_matrix, matrices, plain))


def _macs_per_warp(code: KernelCode, ops: np.ndarray) -> np.ndarray:
    """Multiply-adds of one matrix instruction; a group of four warps shares the large ones."""

    def flag(place: int) -> np.ndarray:
        return np.asarray(code.field(place, 1) == 1)

    is_tf32 = flag(83)
    half_depth = np.where(flag(75), 16, np.where(is_tf32 & flag(78), 4, 8))
    integer = np.where(flag(86), 16, 8) * 8 * np.where(flag(75), 32, 16)
    columns = 8 * (code.field(53, 5).astype(np.int64) + 1)
    group_depth = np.where(ops == Op.HGMMA, np.where(flag(77) & ~flag(76), 8, 16), 32)
    return np.select(
        [ops == Op.HMMA, ops == Op.IMMA, ops == Op.DMMA, np.isin(ops, _GROUP)],
        [16 * 8 * half_depth, integer, 8 * 8 * 4, 16 * columns * group_depth],
        default=0,
    ).astype(np.float64)


_GROUP = (Op.HGMMA, Op.IGMMA, Op.QGMMA)
