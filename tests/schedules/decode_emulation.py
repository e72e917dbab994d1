"""Runs the text of attention with few queries on the CPU: one thread per CUDA thread.

Tensor-core products, loads and copies are replaced by their definitions; everything else is
compiled as it stands, so that index arithmetic, waiting for copies, and the combining of
partial results are seen without a GPU.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from schedules.attention_decode import AttentionDecodeSpace
from schedules.attention_decode_cuda import constants, device_text
from schedules.attention_decode_schedule import n_passes, partial_floats, shared_bytes
from schedules.cuda_kernel import device_code
from tests.schedules.host_library import FUSED, host_library

PARTS = Path(__file__).with_suffix(".hpp")
CUT = "// CUT"
REPLACED = "attention_decode_instructions.cuh"
EARLY = device_code("early_launch.cuh")


def emulate(
    space: AttentionDecodeSpace, values: dict[str, Any], inputs: list[np.ndarray], folder: Path
) -> tuple[np.ndarray, int]:
    """Output of a point, and the fault that the emulation saw: 0 for none."""
    problem, schedule = space._problem, space.schedule(values)
    before, replaced, after = PARTS.read_text().split(CUT)
    text = device_text(problem, schedule).removeprefix(constants(problem, schedule))
    text = text.replace(device_code(REPLACED), "")
    parts = (before, EARLY, constants(problem, schedule), f"//{replaced}", text, f"//{after}")
    library = host_library("".join(parts), folder, *FUSED)
    query, key, value, *rest = map(np.ascontiguousarray, inputs)
    table = rest.pop(0) if problem.pages else None
    mask = rest[0] if problem.mask is not None else None
    lengths = rest[-1] if problem.lengths is not None else None
    y = np.full((*query.shape[:3], value.shape[3]), 7, dtype=query.dtype)
    blocks = problem.groups * n_passes(problem, schedule)
    partial = np.full(blocks * partial_floats(problem, schedule), np.nan, np.float32)
    arrays = [query, key, value, table, mask, lengths, y, partial]
    pointers = [ctypes.c_void_p(None if one is None else one.ctypes.data) for one in arrays]
    read = [query, key, value, table, mask, lengths, partial]
    sizes = (ctypes.c_long * len(read))(*(0 if one is None else one.nbytes for one in read))
    fault = library.run(*pointers, sizes, shared_bytes(problem, schedule))
    return y, int(fault)
