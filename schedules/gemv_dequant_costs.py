"""What points of the packed product need and about how long they take, for whole grids.

Decisions of a schedule may be arrays that broadcast with each other. Times are cycles of a core.
They were fitted to 232 points of nine products of one row on an H200, launched back to back with a
cold cache (root mean square error 14 %). There, reading the weights and working on them added up.
They need to be right within a factor only: points are compared with each other.
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
    rows_per_pass,
    slot_bytes,
    step_groups,
    step_units,
)
from schedules.gemv_dequant_problem import GemvProblem
from schedules.judged_space import Grid, ceil_div
from schedules.resident_blocks import resident_blocks
from schedules.target import Target

MOST_REGISTERS = 200
# Estimates from compiled points: beside x, sums and codes, and per eight columns of x.
REGISTERS_OF_BULK = 24
REGISTERS_OF_LOADS = 34
REGISTERS_PER_X_TILE = 9
REGISTERS_PER_FLOAT_TILE = 12
THREADS_PER_CORE = 2048
START_CYCLES = 1420.0
BLOCK_CYCLES = 180.0
MEMORY_BYTES_PER_CYCLE = 22.8
STAGE_CYCLES = 790.0
"""Until all warps have staged an item of x each."""
ITEM_CYCLES = 51.0
"""Of a core, per item of x."""
ITEM_ELEMENTS = 256
STEP_CYCLES = 89.0
"""Of a warp, per :data:`MOST_CHUNK` codes of every column."""
PART_CYCLES = 22.0
"""Of a core, per as many."""
PIECE_CYCLES = 200.0
REFILL_CYCLES = 540.0
"""Until what is asked for when something has been used is there."""
CLUSTER_CYCLES = 1900.0
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
    columns = digits(problem, schedule) * rows_per_pass(problem, schedule)
    per_tile = np.where(schedule.floats, REGISTERS_PER_FLOAT_TILE, REGISTERS_PER_X_TILE)
    for_x = per_tile * ceil_div(columns, 8)
    scale_words = ELEMENT_BYTES[problem.dtype] // 2
    per_step = 4 * _step_loads(problem) + step_groups(problem) * (scale_words + problem.has_zeros)
    held = np.where(schedule.bulk, 1, schedule.in_flight)
    rest = np.where(schedule.bulk, REGISTERS_OF_BULK, REGISTERS_OF_LOADS)
    return rest + for_x + per_step * held


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
    per_core = ceil_div(blocks, target.n_cores)
    at_once = np.clip(needed.resident, 1, per_core)
    rounds = per_core / at_once
    warps = schedule.warps_k * schedule.warps_n
    n_steps_each = schedule.most_steps(problem) * schedule.most_tiles(problem)
    refills = ceil_div(needed.pieces, schedule.in_flight) - 1
    # Whatever the storage, in parts of so many codes along the depth.
    parts = step_units(problem) * problem.unit_depth / MOST_CHUNK
    x_tiles = ceil_div(digits(problem, schedule) * rows, 8)
    in_turn = n_steps_each * parts * STEP_CYCLES + needed.pieces * PIECE_CYCLES
    in_turn = in_turn + refills * REFILL_CYCLES
    issued = per_core * warps * n_steps_each * parts * PART_CYCLES * (1 + x_tiles) / 2
    items = ceil_div(problem.depth, schedule.blocks_k * ITEM_ELEMENTS) * rows
    staging = rounds * ceil_div(items, warps) * STAGE_CYCLES + per_core * items * ITEM_CYCLES
    weights = problem.n_tiles * _tile_bytes(problem) * passes
    memory = weights / (target.n_cores * MEMORY_BYTES_PER_CYCLE)
    steps = np.maximum(rounds * in_turn, issued)
    meeting = np.where(schedule.cluster, CLUSTER_CYCLES, LAUNCH_CYCLES) * (schedule.blocks_k > 1)
    return Costs(
        total=START_CYCLES + staging + memory + steps + per_core * BLOCK_CYCLES + meeting,
        staging=staging,
        steps=steps,
        in_flight_bytes=at_once * _block_in_flight(problem, schedule),
    )


def _tile_bytes(problem: GemvProblem) -> int:
    """Codes, scales and zero points of a tile."""
    codes = problem.n_units * problem.n_loads * LOAD_BYTES
    return codes + problem.n_groups * problem.group_bytes


def _block_in_flight(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Bytes that the warps of a block have asked for at once."""
    loads = _step_loads(problem) * LOAD_BYTES
    each = np.where(schedule.bulk, slot_bytes(problem, schedule), loads)
    return each * schedule.in_flight * schedule.warps_k * schedule.warps_n
