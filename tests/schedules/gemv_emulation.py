"""Runs the text of the packed product on the CPU: one thread per CUDA thread.

The tensor-core product and the loads are replaced by their definitions; everything else is
compiled as it stands, so that index arithmetic, splits and reductions are seen without a GPU.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from schedules.cuda_kernel import device_code
from schedules.gemv_dequant import GemvDequantSpace
from schedules.gemv_dequant_cuda import ROWS_PER_PASS, arena, constants, kernel_text

PARTS = Path(__file__).with_suffix(".hpp")
CUT = "// CUT"
REPLACED = "gemv_memory.cuh"


def emulate(
    space: GemvDequantSpace, values: dict[str, Any], inputs: list[np.ndarray], folder: Path
) -> tuple[np.ndarray, int]:
    """Output of a point, and not 0 if it used memory that it may not; see ``run``."""
    problem, schedule = space._problem, space.schedule(values)
    before, replaced, after = PARTS.read_text().split(CUT)
    text = kernel_text().replace(device_code(REPLACED), "//" + replaced)
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(before + constants(problem, schedule) + text + "//" + after)
    flags = ["-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["g++", *flags, "-o", str(library), str(source)], check=True)
    roles = ["x", "codes", "scales"]
    roles += ["zeros"] if problem.has_zeros else []
    roles += ["bias"] if problem.has_bias else []
    held = dict(zip(roles, map(np.ascontiguousarray, inputs), strict=True))
    y = np.full((problem.rows, problem.n_columns), 7, dtype=inputs[0].dtype)
    partial = np.full(schedule.blocks_k * y.size, np.nan, np.float32)
    arrays = [*(held.get(role) for role in ("x", "codes", "scales", "zeros", "bias")), y, partial]
    pointers = [ctypes.c_void_p(None if one is None else one.ctypes.data) for one in arrays]
    grid = (
        schedule.blocks_n,
        schedule.blocks_k,
        -(-problem.rows // ROWS_PER_PASS),
    )
    fault = ctypes.CDLL(str(library)).run(*pointers, *grid, arena(problem, schedule).size)
    return y, int(fault)
