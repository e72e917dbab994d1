"""What points of the convolution family need and about how long they take, for whole grids.

Every function takes arrays of knob values that broadcast with each other. Times are cycles of a
multiprocessor; the rates were fitted to some 190 points of eight convolutions on an H100 (root mean
square error 17 %) and need to be right within a factor only: points are compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schedules.conv_layout import Arena, arena, n_tiles
from schedules.convolution import Convolution
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_cuda import K_STEP, WARPGROUP
from schedules.resident_blocks import RESERVED_SHARED_BYTES
from schedules.target import Target

MACS_PER_CYCLE = 2048
SHARED_BYTES_PER_CYCLE = 128
BUSY_SHARE = 0.8
"""Cycles are those of a steady clock; short kernels run with a faster one."""
CACHE_BYTES_PER_CYCLE = 70.0
LATENCY_CYCLES = 1130.0
START_CYCLES = 1340.0
BLOCK_CYCLES = 1700.0
STEP_CYCLES = 116.0
FINISH_BYTES_PER_CYCLE = 23.5
CLUSTER_CYCLES = 420.0
CLUSTER_DOUBLING_CYCLES = 2860.0
LAUNCH_CYCLES = 3700.0
ADDED_BYTES_PER_CYCLE = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        held: In a block's shared memory.
        shared_bytes: Of all blocks of a multiprocessor.
        tiles: Of pixels times filters.
        blocks: Of the launch.
    """

    held: Arena
    shared_bytes: Grid
    tiles: Grid
    blocks: Grid


def needs(problem: Convolution, values: Mapping[str, Grid]) -> Needs:
    """What points occupy; values are those of the knobs, by name."""
    held, tiles = arena(problem, values), n_tiles(problem, values)
    every = held.shared_bytes + RESERVED_SHARED_BYTES
    return Needs(
        held=held,
        shared_bytes=values["blocks_per_core"] * every - RESERVED_SHARED_BYTES,
        tiles=tiles,
        blocks=tiles * values["cluster"] * values["splits"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Estimated cycles of a launch, of the busiest multiprocessor.

    Attributes:
        total: All of it.
        arithmetic: Of the tensor cores.
        memory: Filling the stages.
        finish: Storing the tiles.
        flying_bytes: On their way to a multiprocessor at once.
        idle: Multiprocessors' share without work at the end.
    """

    total: Grid
    arithmetic: Grid
    memory: Grid
    finish: Grid
    flying_bytes: Grid
    idle: Grid


def costs(problem: Convolution, target: Target, values: Mapping[str, Grid], needed: Needs) -> Costs:
    """Estimated times of points that can run."""
    held, steps = needed.held, needed.held.steps
    column, parts = values["tile_column"], values["cluster"] * values["splits"]
    per_core = ceil_div(needed.blocks, target.n_cores)
    at_once = np.minimum(values["blocks_per_core"], per_core)
    # Rows are read again for every 16 terms, so few columns leave the tensor cores waiting.
    sixteen = np.maximum(
        64 * 16 * column / MACS_PER_CYCLE, (64 + column) * 32 / SHARED_BYTES_PER_CYCLE
    )
    arithmetic = BUSY_SHARE * per_core * steps * held.rows / 64 * (K_STEP // 16) * sixteen
    lines = held.copied_lines / np.where(values["halo"] > 0, problem.places, 1)
    stage = (lines + column) * K_STEP * 2
    flying = at_once * np.minimum(values["stages"], steps) * stage
    rate = np.minimum(CACHE_BYTES_PER_CYCLE, flying / LATENCY_CYCLES)
    memory = per_core * steps * stage / rate
    finish = per_core * held.rows * column * 8 / FINISH_BYTES_PER_CYCLE
    finish = finish * np.where(values["cluster"] > 1, 2.0, 1.0)
    rounds = ceil_div(per_core, at_once)
    meeting = CLUSTER_CYCLES + CLUSTER_DOUBLING_CYCLES * np.log2(values["cluster"])
    added = 4 * problem.product.m * problem.filters * parts / target.n_cores
    total = (
        START_CYCLES
        + np.maximum(arithmetic, memory)
        + rounds * (BLOCK_CYCLES + steps * STEP_CYCLES)
        + finish
        + np.where(values["cluster"] > 1, meeting, 0)
        + np.where(values["splits"] > 1, LAUNCH_CYCLES + added / ADDED_BYTES_PER_CYCLE, 0)
    )
    return Costs(
        total=total,
        arithmetic=arithmetic,
        memory=memory,
        finish=finish,
        flying_bytes=flying,
        idle=1 - needed.blocks / (per_core * target.n_cores),
    )


def threads(multipliers: Grid) -> Grid:
    """Threads of a block."""
    return WARPGROUP * (multipliers + 1)
