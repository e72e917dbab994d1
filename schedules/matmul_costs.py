"""About how long a product on warpgroups takes, so that draws begin where it is short.

Cycles of a multiprocessor. Rates were fitted to 1400 points of eight workloads on an H100 and an
H200, from 512 to 4096 rows and columns and down to one row, each weighted by its speed (root mean
square error 13 % beside a common factor of a workload).
"""

from __future__ import annotations

from math import ceil

from schedules.contraction import Contraction
from schedules.matmul_cuda import K_STEP, MatmulSchedule, n_works
from schedules.matmul_simt_costs import MEMORY_BYTES_PER_CYCLE

ELEMENT_BYTES = 2
SUM_BYTES = 4
MULTIPLY_ADDS_PER_CYCLE = 2048
SHARED_BYTES_PER_CYCLE = 87.0
LOADED_BYTES_PER_CYCLE = 56.0
STAGE_LATENCY_CYCLES = 514.0
"""From asking for a stage to its arrival; several are under way at once."""
ALONE_SHARE = 0.16
"""Longer, where one warpgroup multiplies on a multiprocessor: nobody does while it waits."""
PAIR_SHARE = 0.05
"""Longer, where blocks that share columns wait for each other."""
OVERLAP_NORM = 5.0
"""Of what goes on at a time: the longest decides, others are in its way a little."""
STORED_PER_CYCLE = 20.0
START_CYCLES = 3600.0
MEETING_CYCLES = 1000.0
"""Of the blocks of a cluster."""
SPLIT_CYCLES = 2800.0
SPLIT_BYTES_PER_CYCLE = 10.0
"""Of parts of sums, written and read again by a second launch."""


def together(*cycles: float) -> float:
    """How long work takes that goes on at the same time."""
    longest = max(cycles)
    shares = sum((one / longest) ** OVERLAP_NORM for one in cycles)
    return float(longest * shares ** (1 / OVERLAP_NORM))


def step_interval(busy: float, stages: int) -> float:
    """Cycles from one step to the next.

    A stage is asked for when the step behind its last one has begun, arrives, and is multiplied.

    Args:
        busy: Cycles of a step whose terms are there.
        stages: In flight.
    """
    return together(busy, (STAGE_LATENCY_CYCLES + busy) / max(stages - 1, 1))


def splitting_cycles(n_sums: int, n_cores: int) -> float:
    """A second launch that adds parts of sums.

    Args:
        n_sums: Of all parts.
        n_cores: Multiprocessors.
    """
    return SPLIT_CYCLES + n_sums * SUM_BYTES / (SPLIT_BYTES_PER_CYCLE * n_cores)


def product_cycles(problem: Contraction, schedule: MatmulSchedule, n_cores: int) -> float:
    """Estimated cycles of a launch between others of its kind.

    Args:
        problem: What is computed.
        schedule: How; ``n_blocks`` is what it will be.
        n_cores: Multiprocessors.
    """
    works, area = n_works(problem, schedule), schedule.tile_row * schedule.tile_column
    turns = ceil(works / (n_cores * schedule.blocks_per_core))
    side_by_side = min(schedule.blocks_per_core, max(1.0, works / n_cores))
    steps = ceil(ceil(problem.k / K_STEP) / schedule.shares)
    ending = area / STORED_PER_CYCLE * side_by_side
    # The ending of a tile is hidden behind products of the next, or of the block beside.
    is_hidden = schedule.n_blocks < works or side_by_side > 1.0
    splitting = splitting_cycles(works * area, n_cores) if schedule.splits > 1 else 0.0
    adding = turns * _adding_cycles(schedule) if schedule.parts > 1 else 0.0
    multiplying = turns * steps * _step_cycles(schedule, side_by_side)
    working = together(multiplying, memory_cycles(problem, n_cores))
    return START_CYCLES + working + ending * (1 if is_hidden else turns) + splitting + adding


def memory_cycles(problem: Contraction, n_cores: int) -> float:
    """Reading both operands from memory once.

    Args:
        problem: Whose operands.
        n_cores: Multiprocessors.
    """
    terms = (problem.m + problem.n) * problem.k * max(problem.batch, 1)
    return terms * ELEMENT_BYTES / (MEMORY_BYTES_PER_CYCLE * n_cores)


def _adding_cycles(schedule: MatmulSchedule) -> float:
    """Parts of a tile, written to shared memory and read by the blocks of a cluster."""
    return MEETING_CYCLES + 2 * schedule.sum_bytes / SHARED_BYTES_PER_CYCLE


def _step_cycles(schedule: MatmulSchedule, side_by_side: float) -> float:
    rows, columns = schedule.tile_row, schedule.tile_column
    tensor = rows * columns * K_STEP / MULTIPLY_ADDS_PER_CYCLE
    if schedule.multipliers * side_by_side < 2:
        tensor *= 1.0 + ALONE_SHARE
    # Every 64 rows read all columns again.
    shared = (rows + columns * rows / 64) * K_STEP * ELEMENT_BYTES / SHARED_BYTES_PER_CYCLE
    copied = rows + columns / schedule.cluster
    loaded = copied * K_STEP * ELEMENT_BYTES / LOADED_BYTES_PER_CYCLE
    busy = together(tensor, shared, loaded) * side_by_side
    return step_interval(busy, schedule.stages) * (1.0 + PAIR_SHARE * (schedule.cluster > 1))
