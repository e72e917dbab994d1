"""Runs the text of the packed product on the CPU: one thread per CUDA thread.

The tensor-core product and the loads are replaced by their definitions; everything else is
compiled as it stands, so that index arithmetic, splits and reductions are seen without a GPU.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from schedules.cuda_kernel import device_code
from schedules.gemv_dequant import GemvDequantSpace
from schedules.gemv_dequant_cuda import constants, grid_of, kernel_text
from schedules.gemv_dequant_layout import arena
from schedules.packing import TILE_COLUMNS
from tests.schedules.host_library import host_library

PARTS = Path(__file__).with_suffix(".hpp")
CUT = "// CUT"
REPLACED = "gemv_memory.cuh"
EARLY = device_code("early_launch.cuh")
ROLES = ("x", "codes", "scales", "zeros", "bias", "residual", "x_scales", "partial")


def emulate(
    space: GemvDequantSpace, values: dict[str, Any], inputs: list[np.ndarray], folder: Path
) -> tuple[list[np.ndarray], int]:
    """Outputs of a point, and not 0 if it used memory that it may not; see ``run``."""
    problem, schedule = space._problem, space.schedule(values)
    before, replaced, after = PARTS.read_text().split(CUT)
    text = kernel_text(schedule).replace(device_code(REPLACED), "//" + replaced)
    whole = before + EARLY + constants(problem, schedule) + text + "//" + after
    library = host_library(whole, folder, "-O1")
    held = dict(zip(problem.inputs, map(np.ascontiguousarray, inputs), strict=True))
    y = [np.full((problem.rows, n), 7, dtype=held["scales"].dtype) for n in problem.columns]
    size = schedule.blocks_k * problem.rows * problem.n_tiles * TILE_COLUMNS
    held["partial"] = np.full(size, np.nan, np.float32)
    pointers = [ctypes.c_void_p(held[role].ctypes.data if role in held else None) for role in ROLES]
    outputs = (ctypes.c_void_p * len(y))(*(one.ctypes.data for one in y))
    grid = grid_of(problem, schedule)
    fault = library.run(*pointers, outputs, *grid, int(arena(problem, schedule).size))
    return y, int(fault)
