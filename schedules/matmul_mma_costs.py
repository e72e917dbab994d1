"""What points of products by tensor cores of warps need and about how long they take.

Every function takes arrays of knob values that broadcast with each other; times are cycles of a
multiprocessor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schedules.contraction import Contraction
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_mma_cuda import SLOWER_PRODUCTS, n_tiles, stage_bytes, steps_per_split
from schedules.matmul_simt_costs import (
    BLOCK_CYCLES,
    LAUNCH_CYCLES,
    MEMORY_BYTES_PER_CYCLE,
    MEMORY_LATENCY_CYCLES,
    START_CYCLES,
)
from schedules.matmul_simt_cuda import WARP
from schedules.resident_blocks import resident_blocks
from schedules.target import Target

REGISTERS_BESIDE_DATA = 48
THREADS_PER_CORE = 1536
PRODUCT_CYCLES = 1.27
READ_CYCLES = 2.8
STEP_CYCLES = 103.0
"""Cycles of a multiprocessor for one product of a warp (m16n8k16), one read of four matrices, and
the meeting of a step. Fitted to 20 points of two problems on an H100; they miss by 8 % (root mean
square)."""
COPIED_BYTES_PER_CYCLE = 64.0
"""From the second-level cache; in none of those points did copies decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        warp_row: Rows of a warp.
        warp_column: Columns of a warp.
        warps: Of a block.
        registers: Of a thread, estimated from above.
        shared_bytes: Of a block.
        resident: Blocks that fit a multiprocessor; below 1 if none does.
        blocks: Of the launch.
        steps: Of a block.
    """

    warp_row: Grid
    warp_column: Grid
    warps: Grid
    registers: Grid
    shared_bytes: Grid
    resident: Grid
    blocks: Grid
    steps: Grid


def needs(problem: Contraction, target: Target, values: Mapping[str, Grid]) -> Needs:
    """What points occupy; values are those of the knobs, by name."""
    row, column = values["tile_row"], values["tile_column"]
    warps = values["warps_row"] * values["warps_column"]
    warp_row = row // values["warps_row"]
    warp_column = column // values["warps_column"]
    # Sums, and both operands' next 16 terms beside those that are multiplied.
    registers = warp_row * warp_column // WARP + (warp_row + warp_column) // 2
    shared = values["stages"] * stage_bytes(row, column, values["step"])
    registers = registers + REGISTERS_BESIDE_DATA
    resident = resident_blocks(
        target,
        threads=WARP * warps,
        registers=registers,
        shared_bytes=shared,
        most_threads=THREADS_PER_CORE,
    )
    return Needs(
        warp_row=warp_row,
        warp_column=warp_column,
        warps=warps,
        registers=registers,
        shared_bytes=shared,
        resident=resident,
        blocks=n_tiles(problem, row, column) * values["splits"],
        steps=steps_per_split(problem, values["step"], values["splits"]),
    )


def cycles(problem: Contraction, target: Target, values: Mapping[str, Grid], needed: Needs) -> Grid:
    """Estimated time of a launch, of the busiest multiprocessor, of points that can run."""
    n_cores = target.n_cores
    row, column = values["tile_row"], values["tile_column"]
    per_core = ceil_div(needed.blocks, n_cores)
    at_once = np.clip(needed.resident, 1, per_core)
    terms = np.minimum(needed.steps * values["step"], problem.k)
    slower = SLOWER_PRODUCTS.get(target.arch, 1.0)
    rows, columns = needed.warp_row / 16, needed.warp_column / 16
    sixteen = rows * 2 * columns * PRODUCT_CYCLES * slower + (rows + columns) * READ_CYCLES
    busy = per_core * needed.warps * terms / 16 * sixteen
    flying = at_once * (values["stages"] - 1) * stage_bytes(row, column, values["step"])
    rate = flying / MEMORY_LATENCY_CYCLES
    memory = np.maximum(
        per_core * (row + column) * terms * 2 / np.minimum(COPIED_BYTES_PER_CYCLE, rate),
        2 * problem.elements / n_cores / np.minimum(MEMORY_BYTES_PER_CYCLE, rate),
    )
    rounds = ceil_div(per_core, at_once)
    return (
        START_CYCLES
        + np.maximum(busy, memory)
        + rounds * (BLOCK_CYCLES + needed.steps * STEP_CYCLES)
        + np.where(values["splits"] > 1, LAUNCH_CYCLES, 0)
    )
