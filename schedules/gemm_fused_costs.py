"""About how long a product takes that unpacks its matrix in front of the tensor cores.

Cycles of a multiprocessor; what such products have in common with others on warpgroups stands in
:mod:`schedules.matmul_costs`. The rest was fitted to 51 points of 64 and 512 rows on an H200.
"""

from __future__ import annotations

from math import ceil

from schedules.gemm_fused_cuda import FusedSchedule, n_works, piece_depth, steps_per_split
from schedules.gemv_dequant_problem import GemvProblem
from schedules.matmul_costs import (
    CLUSTER_CYCLES,
    LOADED_BYTES_PER_CYCLE,
    MULTIPLY_ADDS_PER_CYCLE,
    SHARED_BYTES_PER_CYCLE,
    START_CYCLES,
    STORED_PER_CYCLE,
    splitting_cycles,
    step_interval,
    together,
)
from schedules.matmul_cuda import ELEMENT_BYTES, K_STEP

UNPACK_CYCLES = 480.0
"""From the codes of a step to its floats, which a warpgroup's own products do not hide."""
ISSUE_CYCLES = 330.0
"""That schedulers are busy with them."""
CODE_LATENCY_CYCLES = 1700.0
"""From asking for a piece of codes to its arrival."""


def fused_cycles(problem: GemvProblem, schedule: FusedSchedule, output: int, n_cores: int) -> float:
    """Estimated cycles of the launch of an output between others of its kind.

    Args:
        problem: What is computed.
        schedule: How.
        output: Its number.
        n_cores: Multiprocessors.
    """
    works = n_works(problem, schedule, output)
    area = schedule.tile_row * schedule.tile_column
    turns = ceil(works / (n_cores * schedule.blocks_per_core))
    side_by_side = min(schedule.blocks_per_core, max(1.0, works / n_cores))
    steps = steps_per_split(problem, schedule.splits)
    multiplying = turns * steps * _step_cycles(problem, schedule, side_by_side)
    ending = turns * area / STORED_PER_CYCLE * side_by_side
    splitting = splitting_cycles(works * area, n_cores) if schedule.splits > 1 else 0.0
    meeting = CLUSTER_CYCLES if schedule.cluster > 1 else 0.0
    return START_CYCLES + multiplying + ending + splitting + meeting


def _step_cycles(problem: GemvProblem, schedule: FusedSchedule, side_by_side: float) -> float:
    rows, columns = schedule.tile_row, schedule.tile_column
    tensor = rows * columns * K_STEP / MULTIPLY_ADDS_PER_CYCLE
    issued = schedule.multipliers * ISSUE_CYCLES
    shared = schedule.multipliers * columns * K_STEP * ELEMENT_BYTES / SHARED_BYTES_PER_CYCLE
    n_bytes = columns * ELEMENT_BYTES + rows * problem.bits / 8
    loaded = n_bytes * K_STEP / LOADED_BYTES_PER_CYCLE
    busy = together(tensor, issued, shared, loaded) * side_by_side
    alone = UNPACK_CYCLES + tensor / schedule.multipliers
    asked = CODE_LATENCY_CYCLES * piece_depth(problem) / K_STEP / schedule.ahead
    return step_interval(together(busy, alone, asked), schedule.stages)
