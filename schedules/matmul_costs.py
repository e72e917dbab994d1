"""About how long a product on warpgroups takes, so that draws begin where it is short.

Cycles of a multiprocessor. Rates were fitted to 1400 points of eight workloads on an H100 and an
H200, from 512 to 4096 rows and columns and down to one row; what stages wait for, clusters and what
neighbours have in common to 1857 points of eleven, hot and cold, each weighted by its speed. Beside
a common factor of a workload the root mean square error is 9 %. Of a workload that is left out, the
point with the least estimate takes 1.6 % longer than the best that was recorded, the best of the
first eight 0.5 % (means of all).
"""

from __future__ import annotations

from math import ceil, hypot

from schedules.contraction import Contraction
from schedules.matmul_cuda import ELEMENT_BYTES, K_STEP, MatmulSchedule, n_rows, n_works
from schedules.matmul_simt_costs import MEMORY_BYTES_PER_CYCLE
from schedules.resident_blocks import CLUSTERED_SHARE

SUM_BYTES = 4
MULTIPLY_ADDS_PER_CYCLE = 2048
SHARED_BYTES_PER_CYCLE = 87.0
LOADED_BYTES_PER_CYCLE = 56.0
NEIGHBOURS = 16
FAR_BYTES_PER_CYCLE = 75.0
"""Of what so many blocks, one after the other, do not have in common."""
STAGE_LATENCY_CYCLES = 410.0
"""From asking for a stage to its arrival; several are under way at once."""
COLD_LATENCY_CYCLES = 560.0
"""Longer, if it comes from memory."""
CLUSTER_CYCLES = 760.0
"""To start and end blocks as clusters. What they copy for each other saves what waiting costs."""
OVERLAP_NORM = 5.0
"""Of what goes on at a time: the longest decides, others are in its way a little."""
STORED_PER_CYCLE = 20.0
ENDING_SHARE = 0.5
"""Of endings behind products of another tile, that those do not hide."""
SCATTERED_PER_CYCLE = 8.0
"""Likewise, of elements that are no neighbours; nothing hides that."""
START_CYCLES = 3600.0
MEETING_CYCLES = 2300.0
"""Of the blocks of a cluster, before parts are added."""
SPLIT_CYCLES = 2800.0
CORE_BYTES_PER_CYCLE = 24.0
"""That one multiprocessor gets from memory."""
STRAIGHT_FACTOR = 2.0
"""Longer, where rows of the tensor cores are rows of the parts."""
SPLIT_BYTES_PER_CYCLE = 10.0
"""Of parts of sums, written and read again by a second launch."""


def together(*cycles: float) -> float:
    """How long work takes that goes on at the same time."""
    longest = max(cycles)
    shares = sum((one / longest) ** OVERLAP_NORM for one in cycles)
    return float(longest * shares ** (1 / OVERLAP_NORM))


def step_interval(busy: float, stages: int, latency: float = STAGE_LATENCY_CYCLES) -> float:
    """Cycles from one step to the next.

    A stage is asked for when the step behind its last one has begun, arrives, and is multiplied.

    Args:
        busy: Cycles of a step whose terms are there.
        stages: In flight.
        latency: From asking for a stage to its arrival.
    """
    return together(busy, (latency + busy) / max(stages - 1, 1))


def splitting_cycles(n_sums: int, n_cores: int) -> float:
    """A second launch that adds parts of sums.

    Args:
        n_sums: Of all parts.
        n_cores: Multiprocessors.
    """
    return SPLIT_CYCLES + n_sums * SUM_BYTES / (SPLIT_BYTES_PER_CYCLE * n_cores)


def product_cycles(
    problem: Contraction, schedule: MatmulSchedule, n_cores: int, *, cold: bool = True
) -> float:
    """Estimated cycles of a launch between others of its kind.

    Args:
        problem: What is computed.
        schedule: How; ``n_blocks`` is what it will be.
        n_cores: Multiprocessors.
        cold: Whether operands lie in memory, not in the second-level cache.
    """
    works, area = n_works(problem, schedule), schedule.tile_row * schedule.tile_column
    slots = _slots(schedule, n_cores)
    turns = ceil(works / slots)
    side_by_side = min(schedule.blocks_per_core, max(1.0, works * schedule.blocks_per_core / slots))
    steps = ceil(ceil(problem.k / K_STEP) / schedule.shares)
    multiplying = turns * steps * _step_cycles(problem, schedule, side_by_side, cold=cold)
    # The ending of a tile is hidden behind products of the next, or of the block beside.
    is_hidden = schedule.n_blocks < works or side_by_side > 1.0
    shown = 1 + (turns - 1) * (ENDING_SHARE if is_hidden else 1.0)
    return (
        START_CYCLES
        # Copies under way hide multiplying only where memory answers in time.
        + hypot(multiplying, memory_cycles(problem, min(works, n_cores), n_cores, cold=cold))
        + area / STORED_PER_CYCLE * side_by_side * shown
        + turns * _extra_cycles(schedule)
        + _splitting_cycles(schedule, works * area, n_cores)
        + (CLUSTER_CYCLES if schedule.cluster * schedule.parts > 1 else 0.0)
    )


def _splitting_cycles(schedule: MatmulSchedule, n_sums: int, n_cores: int) -> float:
    if schedule.splits == 1:
        return 0.0
    return splitting_cycles(n_sums, n_cores) * (1.0 if schedule.swapped else STRAIGHT_FACTOR)


def _slots(schedule: MatmulSchedule, n_cores: int) -> int:
    """Blocks that run at a time."""
    size = schedule.cluster * schedule.parts
    cores = n_cores if size <= 2 else int(n_cores * CLUSTERED_SHARE)
    return cores * schedule.blocks_per_core // size * size


def _extra_cycles(schedule: MatmulSchedule) -> float:
    """Of a tile, beside its products and their plain ending: parts go through shared memory."""
    area = schedule.tile_row * schedule.tile_column
    scattered = area * (1 / SCATTERED_PER_CYCLE - 1 / STORED_PER_CYCLE) if schedule.swapped else 0.0
    if schedule.parts == 1:
        return scattered
    added = MEETING_CYCLES + 2 * schedule.sum_bytes / SHARED_BYTES_PER_CYCLE
    return added + scattered / schedule.parts


def memory_cycles(problem: Contraction, n_busy: int, n_cores: int, *, cold: bool) -> float:
    """Writing the output to memory, and reading both operands once.

    Args:
        problem: What is computed.
        n_busy: Multiprocessors that read and write.
        n_cores: All of them.
        cold: Whether operands lie in memory.
    """
    n_elements = problem.elements if cold else problem.batch * problem.m * problem.n
    rate = min(MEMORY_BYTES_PER_CYCLE * n_cores, CORE_BYTES_PER_CYCLE * n_busy)
    return n_elements * ELEMENT_BYTES / rate


def _step_cycles(
    problem: Contraction, schedule: MatmulSchedule, side_by_side: float, *, cold: bool
) -> float:
    rows, columns = schedule.tile_row, schedule.tile_column
    tensor = rows * columns * K_STEP / MULTIPLY_ADDS_PER_CYCLE
    # Every 64 rows read all columns again.
    shared = (rows + columns * rows / 64) * K_STEP * ELEMENT_BYTES / SHARED_BYTES_PER_CYCLE
    loaded = (rows + columns) * K_STEP * ELEMENT_BYTES / LOADED_BYTES_PER_CYCLE
    far = _own_lines(problem, schedule) * K_STEP * ELEMENT_BYTES / FAR_BYTES_PER_CYCLE
    busy = together(tensor, shared, loaded, far) * side_by_side
    latency = STAGE_LATENCY_CYCLES + (COLD_LATENCY_CYCLES if cold else 0.0)
    return step_interval(busy, schedule.stages, latency)


def _own_lines(problem: Contraction, schedule: MatmulSchedule) -> float:
    """Rows and columns per block that neighbours do not have in common."""
    row_tiles = -(-n_rows(problem, swapped=schedule.swapped) // schedule.tile_row)
    height = min(schedule.group, row_tiles)
    return schedule.tile_row * height / NEIGHBOURS + schedule.tile_column / height
