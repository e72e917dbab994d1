"""Decisions of a packed product's program, and how its steps and shared memory follow from them.

Decisions may be arrays over points, too: so a space judges all of its points at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.gemv_dequant_problem import GemvProblem
from schedules.judged_space import Grid, ceil_div
from schedules.packing import TILE_COLUMNS

STEP_UNIT_CHOICES = (4, 2, 1)
# Depth over which codes times digits of x may be summed: then 24 bits hold every sum.
MOST_CHUNK = 128
# Columns of the tensor cores' right operand, which one pass over the weights serves.
MOST_X_COLUMNS = 48
MOST_FLOAT_COLUMNS = 64
# x is whole numbers of so many digits of base 256, or one if it is int8; see the text.
DIGITS = 3
# Strides of 64 modulo 128 bytes keep digits of x in different memory banks.
STRIDE_REMAINDER = 64
LOAD_BYTES = 512
FLOAT_BYTES = 2
# Steps of a tile that are written out one by one.
MOST_WRITTEN_OUT = 8
MOST_HELD_REGISTERS = 32
# Barriers of a block, of which one is for all of its warps.
N_BARRIERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GemvSchedule:
    """The decisions of one point.

    Attributes:
        warps_k: Warps of a block that share the depth.
        warps_n: Groups of such warps with columns of their own.
        blocks_n: Blocks along the columns; tiles are dealt out evenly to their groups of warps.
        blocks_k: Blocks that share the depth; more than one needs a second launch.
        in_flight: Steps (in bulk: pieces) whose loads are outstanding at once, per warp.
        piece: Steps that one bulk copy brings.
        bulk: Whether codes come through shared memory by bulk copies, else in registers.
        early: Whether weights are asked for before the kernel in front has ended.
        floats: Whether codes become 16-bit floats like ``x``, else ``x`` whole numbers like them.
        cluster: Whether blocks that share the depth are a cluster, which needs no second launch.
    """

    warps_k: Grid
    warps_n: Grid
    blocks_n: Grid
    blocks_k: Grid
    in_flight: Grid
    piece: Grid
    bulk: Grid
    early: bool
    floats: Grid
    cluster: Grid

    @property
    def n_threads(self) -> Grid:
        """Threads of a block."""
        return 32 * self.warps_k * self.warps_n

    def most_tiles(self, problem: GemvProblem) -> Grid:
        """Tiles of the group of warps that has most."""
        return ceil_div(problem.n_tiles, self.blocks_n * self.warps_n)

    def most_steps(self, problem: GemvProblem) -> Grid:
        """Steps of a tile that a warp has at most."""
        return ceil_div(n_steps(problem), self.warps_k * self.blocks_k)


def may_be_floats(problem: GemvProblem) -> bool:
    """Whether codes can become floats of the type of ``x``, exactly."""
    exact = problem.dtype == "float16" or (problem.dtype == "bfloat16" and problem.bits <= 4)
    return exact and not problem.is_int8


def digits(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Columns of the right operand that a row of ``x`` takes."""
    return 1 if problem.is_int8 else np.where(schedule.floats, 1, DIGITS)


def rows_per_pass(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Rows of ``x`` that one reading of the weights serves."""
    most = np.where(schedule.floats, MOST_FLOAT_COLUMNS, MOST_X_COLUMNS)
    return np.minimum(problem.rows, most // digits(problem, schedule))


def kept_digits(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Sums of a column that a warp keeps: digits of a single row are one number by then."""
    columns = digits(problem, schedule) * rows_per_pass(problem, schedule)
    return np.where(rows_per_pass(problem, schedule) == 1, 1, columns)


def step_units(problem: GemvProblem) -> int:
    """Units that are fetched together: a part of a group's, or one."""
    per_group = problem.group // problem.unit_depth
    most = max(1, MOST_CHUNK // problem.unit_depth)
    fits = (n for n in STEP_UNIT_CHOICES if n <= most and per_group and per_group % n == 0)
    return next(fits, 1)


def step_groups(problem: GemvProblem) -> int:
    """Scales of a column per step."""
    return max(1, problem.unit_depth // problem.group)


def chunk_depth(problem: GemvProblem) -> int:
    """Depth over which integers are summed: a group or a power of two that divides it."""
    return min(problem.group, step_units(problem) * problem.unit_depth, MOST_CHUNK)


def n_steps(problem: GemvProblem) -> int:
    """Steps along the whole depth."""
    return -(-problem.n_units // step_units(problem))


def slot_bytes(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Codes, scales and zero points of one bulk copy; see ``SLOT_BYTES`` in the text."""
    units = step_units(problem)
    straddles = problem.group > units * problem.unit_depth
    groups = schedule.piece * step_groups(problem) + straddles
    codes = schedule.piece * units * problem.n_loads * LOAD_BYTES
    return codes + groups * problem.group_bytes


def together(schedule: GemvSchedule) -> Grid:
    """Whether all warps of a block wait for each other until x is there, see ``OWN_X`` in the text.

    Warps that read the same part of it have a barrier of their own where there are enough.
    """
    return (schedule.warps_n > 1) & (schedule.warps_k >= N_BARRIERS)


def right_registers(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Registers of what the codes of a step are multiplied by, see ``Right`` in the text."""
    depth = step_units(problem) * problem.unit_depth
    x_tiles = ceil_div(digits(problem, schedule) * rows_per_pass(problem, schedule), 8)
    of_digits = 4 * ceil_div(depth, 64) + 4 * (depth // chunk_depth(problem))
    return x_tiles * np.where(schedule.floats, depth // 8, of_digits)


def held_steps(problem: GemvProblem, schedule: GemvSchedule) -> Grid:
    """Steps whose right operands a warp keeps in registers over tiles: all of a tile, or none."""
    steps = schedule.most_steps(problem)
    written_out = np.where(schedule.bulk, steps <= MOST_WRITTEN_OUT, steps == schedule.in_flight)
    few = steps * right_registers(problem, schedule) <= MOST_HELD_REGISTERS
    return np.where(written_out & few & (schedule.most_tiles(problem) > 1), steps, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where things lie in dynamic shared memory, in bytes; barriers come first.

    Attributes:
        table: Sums and factors of the digits of the chunks of x.
        held: x, or its digits.
        reduced: Sums of the warps.
        met: Sums of the blocks of a cluster.
        ring: Bulk copies.
        size: All together.
        x_stride: Between rows or digits.
    """

    table: Grid
    held: Grid
    reduced: Grid
    met: Grid
    ring: Grid
    size: Grid
    x_stride: Grid


def arena(problem: GemvProblem, schedule: GemvSchedule) -> Arena:
    """The layout of a schedule's shared memory."""
    warps = schedule.warps_k * schedule.warps_n
    apart = schedule.warps_k + 4 * (schedule.warps_k % 8 == 0)
    slots = warps * schedule.in_flight * schedule.bulk
    step_depth = step_units(problem) * problem.unit_depth
    length = ceil_div(n_steps(problem), schedule.blocks_k) * step_depth
    row_bytes = length * np.where(schedule.floats, FLOAT_BYTES, 1)
    stride = row_bytes + (STRIDE_REMAINDER - row_bytes) % 128
    columns = digits(problem, schedule) * rows_per_pass(problem, schedule)
    chunks = np.where(schedule.floats, 0, length // chunk_depth(problem))
    table = _aligned(8 * slots)
    held = table + 8 * chunks * ceil_div(columns, 8) * 8
    reduced = held + _aligned(columns * stride)
    kept_columns = schedule.warps_n * schedule.most_tiles(problem) * TILE_COLUMNS
    met = reduced + 4 * kept_columns * kept_digits(problem, schedule) * apart
    ring = met + _aligned(4 * _met_sums(problem, schedule, kept_columns))
    size = ring + slots * slot_bytes(problem, schedule)
    return Arena(
        table=table,
        held=held,
        reduced=reduced,
        met=met,
        ring=ring,
        size=size,
        x_stride=stride,
    )


def _met_sums(problem: GemvProblem, schedule: GemvSchedule, kept_columns: Grid) -> Grid:
    """Sums that the blocks of a cluster write into the memory of one of them."""
    per_spot = 2 if problem.gated else 1
    spots = kept_columns // per_spot * rows_per_pass(problem, schedule)
    sums = schedule.blocks_k * per_spot * ceil_div(spots, schedule.blocks_k)
    return np.where(schedule.cluster, sums, 0)


def _aligned(n_bytes: Grid) -> Grid:
    return ceil_div(n_bytes, 16) * 16
