"""About how long a product on warpgroups takes, so that draws begin where it is short.

Cycles of a multiprocessor. Rates were fitted to 1393 points of nine workloads on an H100 and an
H200, from 512 to 4096 rows and columns and down to one row (root mean square error 28 %); with each
workload left out, ranks of its points agree with their times (Spearman 0.80 to 0.92), and the best
known one is within 1 % of a point whose estimate is at most 1.4 times the least.
"""

from __future__ import annotations

from math import ceil

from schedules.contraction import Contraction
from schedules.matmul_cuda import K_STEP, MatmulSchedule, n_works

ELEMENT_BYTES = 2
MULTIPLY_ADDS_PER_CYCLE = 4096
SHARED_BYTES_PER_CYCLE = 130.0
LOADED_BYTES_PER_CYCLE = 85.0
STAGE_LATENCY_CYCLES = 912.0
"""From asking for a stage to its arrival; several are under way at once."""
ALONE_SHARE = 0.39
"""Longer, where one warpgroup multiplies on a multiprocessor: nobody does while it waits."""
PAIR_SHARE = 1.9
"""Longer, where blocks that share columns wait for each other."""
STORED_PER_CYCLE = 15.3
START_CYCLES = 920.0
SPLIT_CYCLES = 2500.0


def product_cycles(problem: Contraction, schedule: MatmulSchedule, n_cores: int) -> float:
    """Estimated cycles of a launch between others of its kind.

    Args:
        problem: What is computed.
        schedule: How; ``n_blocks`` is what it will be.
        n_cores: Multiprocessors.
    """
    works = n_works(problem, schedule)
    turns = ceil(works / (n_cores * schedule.blocks_per_core))
    side_by_side = min(schedule.blocks_per_core, max(1.0, works / n_cores))
    steps = ceil(ceil(problem.k / K_STEP) / schedule.splits)
    ending = schedule.tile_row * schedule.tile_column / STORED_PER_CYCLE * side_by_side
    # The ending of a tile is hidden behind products of the next, or of the block beside.
    is_hidden = schedule.n_blocks < works or side_by_side > 1.0
    splitting = SPLIT_CYCLES if schedule.splits > 1 else 0.0
    multiplying = turns * steps * _step_cycles(schedule, side_by_side)
    return START_CYCLES + multiplying + ending * (1 if is_hidden else turns) + splitting


def _step_cycles(schedule: MatmulSchedule, side_by_side: float) -> float:
    rows, columns = schedule.tile_row, schedule.tile_column
    tensor = rows * columns * K_STEP / MULTIPLY_ADDS_PER_CYCLE
    if schedule.multipliers * side_by_side < 2:
        tensor *= 1.0 + ALONE_SHARE
    # Every 64 rows read all columns again.
    shared = (rows + columns * rows / 64) * K_STEP * ELEMENT_BYTES / SHARED_BYTES_PER_CYCLE
    loaded = (rows + columns) * K_STEP * ELEMENT_BYTES / LOADED_BYTES_PER_CYCLE
    busy = max(tensor, shared, loaded) * side_by_side
    longest = max(busy, STAGE_LATENCY_CYCLES / schedule.stages)
    return longest * (1.0 + PAIR_SHARE * (schedule.cluster > 1))
