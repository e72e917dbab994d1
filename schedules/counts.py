"""Work a computation cannot avoid: its operations, and every tensor touched once."""

from __future__ import annotations

from math import prod

from schedules import _tvm
from schedules.programs import module_of
from schedules.workload import TensorSpec, Workload

SHORT_BITS = {"bool": 8, "bfloat16": 16}


def flops_of(workload: Workload) -> float | None:
    """Floating-point operations of one launch as its program states them.

    ``None`` where the program hides them, for example in calls of packed functions.
    """
    tvm = _tvm.load()
    try:
        return float(tvm.s_tir.analysis.estimate_tir_flops(module_of(workload)))
    except (RuntimeError, ValueError):
        return None


def unique_bytes_of(workload: Workload) -> int:
    """Bytes of all arguments: each input read once and each output written once."""
    return sum(tensor_bytes(spec) for spec in (*workload.inputs, *workload.outputs))


def tensor_bytes(spec: TensorSpec) -> int:
    """Size of one tensor, rounded up to whole bytes."""
    return (prod(spec.shape) * dtype_bits(spec.dtype) + 7) // 8


def dtype_bits(dtype: str) -> int:
    """Bits of one element of a TVM dtype name."""
    if dtype in SHORT_BITS:
        return SHORT_BITS[dtype]
    if dtype.startswith("float8"):
        return 8
    return int("".join(character for character in dtype if character.isdigit()))
