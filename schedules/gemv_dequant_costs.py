"""What points of the packed product need and about how long they take, for whole grids of them.

Decisions of a schedule may be arrays that broadcast with each other. Times are cycles of a core.
They were fitted to 454 points of seven products of 1, 8 and 16 rows on an H200, launched back to
back with a cold cache (root mean square error 13 %), and, five times as heavy, to six points of two
small products of an earlier kernel, of which three are guesses. On 383 recorded points of eight
products the error is 9 to 17 % within a product; the point with the least estimate takes 16 %
longer than the best, the best of the first eight 0.7 % (means of all). Estimates need to be right
within a factor only: points are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.dtypes import ELEMENT_BYTES
from schedules.gemv_dequant_layout import (
    LOAD_BYTES,
    MOST_CHUNK,
    GemvSchedule,
    arena,
    digits,
    held_steps,
    right_registers,
    rows_per_pass,
    slot_bytes,
    step_groups,
    step_units,
    together,
)
from schedules.gemv_dequant_problem import GemvProblem
from schedules.judged_space import Grid, ceil_div
from schedules.resident_blocks import CLUSTERED_SHARE, resident_blocks
from schedules.target import Target

MOST_REGISTERS = 200
# Estimated from compiled points: beside codes and what they are multiplied by.
REGISTERS_OF_REST = 26
THREADS_PER_CORE = 2048
START_CYCLES = 525.0
BLOCK_CYCLES = 508.0
MEMORY_BYTES_PER_CYCLE = 19.5
ITEM_ELEMENTS = 256
BATCH_ITEMS = 4
STAGE_CYCLES = 1040.0
"""Until a warp has brought a few items of x to shared memory."""
ITEM_CYCLES = 45.3
"""Of a core, per item of x."""
FLOAT_ITEMS = 0.0716
"""What an item takes that is copied only, where others become digits."""
TOGETHER_CYCLES = 1010.0
"""Until all warps of a block have done so, where others wait for a few only."""
STEP_CYCLES = 207.0
"""Of a warp, per :data:`MOST_CHUNK` codes of every column."""
PART_CYCLES = 24.0
"""Of a core, per as many."""
FLOAT_STEPS = 2.78
"""How many times as long it takes to make floats of codes."""
PIECE_CYCLES = 85.6
REFILL_CYCLES = 860.0
"""Until what is asked for when something has been used is there."""
CLUSTER_CYCLES = 1280.0
LAUNCH_CYCLES = 1190.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        pieces: Steps (in bulk: pieces) of the warp that has most.
        registers: Of a thread, estimated.
        shared_bytes: Of a block.
        resident: Blocks that fit a core; below 1 if none does.
    """

    pieces: Grid
    registers: Grid
    shared_bytes: Grid
    resident: Grid


def needs(problem: GemvProblem, target: Target, schedule: GemvSchedule) -> Needs:
    """What points occupy."""
    registers = _registers(problem, schedule)
    shared_bytes = arena(problem, schedule).size
    resident = resident_blocks(
        target,
        threads=schedule.n_threads,
        registers=registers,
        shared_bytes=shared_bytes,
        most_threads=THREADS_PER_CORE,
    )
    pieces = ceil_div(schedule.most_steps(problem), schedule.piece) * schedule.most_tiles(problem)
    return Needs(pieces=pieces, registers=registers, shared_bytes=shared_bytes, resident=resident)


def _step_loads(problem: GemvProblem) -> int:
    """16-byte loads of codes of a lane per step."""
    return step_units(problem) * problem.n_loads


def _registers(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    scale_words = ELEMENT_BYTES[problem.dtype] // 2
    per_step = 4 * _step_loads(problem) + step_groups(problem) * (scale_words + problem.has_zeros)
    fetched = per_step * np.where(schedule.bulk, 1, schedule.in_flight)
    kept = right_registers(problem, schedule) * np.maximum(1, held_steps(problem, schedule))
    return REGISTERS_OF_REST + kept + fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Estimated cycles of a launch among others like it.

    Attributes:
        total: All of it.
        staging: Until a block has x, or its digits, in shared memory.
        steps: Of the busiest warp, one after the other.
        in_flight_bytes: Of codes and scales, asked for at once by a core.
    """

    total: Grid
    staging: Grid
    steps: Grid
    in_flight_bytes: Grid


def costs(problem: GemvProblem, target: Target, schedule: GemvSchedule) -> Costs:
    """Estimated times of points that can run."""
    needed = needs(problem, target, schedule)
    rows = rows_per_pass(problem, schedule)
    passes = ceil_div(problem.rows, rows)
    blocks = schedule.blocks_n * schedule.blocks_k * passes
    per_core = ceil_div(blocks, _busy_cores(schedule, target))
    at_once = np.clip(needed.resident, 1, per_core)
    rounds = per_core / at_once
    staging = _staging(problem, schedule, rounds, per_core)
    steps = _steps(problem, schedule, needed, rounds, per_core)
    weights = problem.n_tiles * _tile_bytes(problem) * passes
    memory = weights / (target.n_cores * MEMORY_BYTES_PER_CYCLE)
    meeting = np.where(schedule.cluster, CLUSTER_CYCLES, LAUNCH_CYCLES) * (schedule.blocks_k > 1)
    rest = START_CYCLES + per_core * BLOCK_CYCLES + meeting
    return Costs(
        # Reading and working hide each other in part.
        total=rest + staging + np.hypot(memory, steps),
        staging=staging,
        steps=steps,
        in_flight_bytes=at_once * _block_in_flight(problem, schedule),
    )


def _busy_cores(schedule: GemvSchedule, target: Target) -> Grid:
    """Cores that have blocks at a time: a cluster waits until enough neighbours are free."""
    clustered = int(target.n_cores * CLUSTERED_SHARE)
    whole = np.maximum(1, clustered // schedule.blocks_k) * schedule.blocks_k
    return np.where(schedule.cluster & (schedule.blocks_k > 2), whole, target.n_cores)


def _staging(problem: GemvProblem, schedule: GemvSchedule, rounds: Grid, per_core: Grid) -> Grid:
    """Until x is in shared memory, of all blocks of a core."""
    items = ceil_div(problem.depth, schedule.blocks_k * ITEM_ELEMENTS)
    items = items * rows_per_pass(problem, schedule)
    warp_items = ceil_div(items, schedule.warps_k * schedule.warps_n)
    in_turn = rounds * ceil_div(warp_items, BATCH_ITEMS) * STAGE_CYCLES
    each = np.where(schedule.floats, FLOAT_ITEMS, 1.0)
    return each * (in_turn + per_core * items * ITEM_CYCLES) + TOGETHER_CYCLES * together(schedule)


def _steps(
    problem: GemvProblem, schedule: GemvSchedule, needed: Needs, rounds: Grid, per_core: Grid
) -> Grid:
    """Of the busiest warp or of all warps of a core, whichever takes longer."""
    # Whatever the storage, in parts of so many codes along the depth.
    parts = step_units(problem) * problem.unit_depth / MOST_CHUNK
    parts = parts * schedule.most_steps(problem) * schedule.most_tiles(problem)
    x_tiles = ceil_div(digits(problem, schedule) * rows_per_pass(problem, schedule), 8)
    work = parts * np.where(schedule.floats, FLOAT_STEPS, 1.0) * (1 + x_tiles) / 2
    issued = per_core * schedule.warps_k * schedule.warps_n * work * PART_CYCLES
    refills = ceil_div(needed.pieces, schedule.in_flight) - 1
    in_turn = work * STEP_CYCLES + needed.pieces * PIECE_CYCLES + refills * REFILL_CYCLES
    return np.maximum(rounds * in_turn, issued)


def _tile_bytes(problem: GemvProblem) -> int:
    """Codes, scales and zero points of a tile."""
    codes = problem.n_units * problem.n_loads * LOAD_BYTES
    return codes + problem.n_groups * problem.group_bytes


def _block_in_flight(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Bytes that the warps of a block have asked for at once."""
    loads = _step_loads(problem) * LOAD_BYTES
    each = np.where(schedule.bulk, slot_bytes(problem, schedule), loads)
    return each * schedule.in_flight * schedule.warps_k * schedule.warps_n
