"""About how long unpacking a matrix in a launch of its own takes."""

from __future__ import annotations

from schedules.dtypes import ELEMENT_BYTES
from schedules.gemv_dequant_problem import GemvProblem
from schedules.packing import TILE_COLUMNS

WRITTEN_BYTES_PER_CYCLE = 9.0
"""Of a multiprocessor."""


def unpacking_cycles(problem: GemvProblem, n_cores: int) -> float:
    """Cycles of writing the matrix as floats.

    Args:
        problem: Whose matrix.
        n_cores: Multiprocessors.
    """
    n_bytes = problem.n_tiles * TILE_COLUMNS * problem.depth * ELEMENT_BYTES[problem.dtype]
    return n_bytes / (WRITTEN_BYTES_PER_CYCLE * n_cores)
