"""What points of the float32 product family need and about how long they take, for whole grids.

Every function takes arrays of knob values that broadcast with each other, so that a space of
hundreds of thousands of points is judged in a fraction of a second. Times are cycles of a
multiprocessor; the rates were fitted to 108 points of nine products on an H100 (root mean square
error 13 %) and need to be right within a factor only: points are compared with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schedules.contraction import Contraction, Operand
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_simt_cuda import MOST_VECTOR, WARP, by_depth, chunk, line_lengths
from schedules.resident_blocks import resident_blocks
from schedules.target import Target

FMA_PER_CYCLE = 112
SHARED_READS_PER_CYCLE = 0.39
CACHE_BYTES_PER_CYCLE = 32.0
MEMORY_BYTES_PER_CYCLE = 13.8
MEMORY_LATENCY_CYCLES = 700.0
OVERLAP = 0.64
"""Share of the shorter of multiplying and copying that adds to the longer one."""
START_CYCLES = 1450.0
BLOCK_CYCLES = 970.0
STEP_CYCLES = 88.0
LAYERS_CYCLES = 250.0
CLUSTER_CYCLES = 2160.0
CLUSTER_DOUBLING_CYCLES = 510.0
REMOTE_FLOATS_PER_CYCLE = 33.0
SHARED_FLOATS_PER_CYCLE = 16.0
"""Written and read once."""
LAUNCH_CYCLES = 4660.0
ADDRESS_REGISTERS = 34
SMALL_COPY_REGISTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        lanes_row: Threads of a warp along the rows.
        lanes_column: Threads of a warp along the columns.
        threads: Of a block.
        registers: Of a thread, estimated from above.
        shared_bytes: Of a block.
        resident: Blocks that fit a multiprocessor; below 1 if none does.
        blocks: Of the launch.
        terms: Of one block.
    """

    lanes_row: Grid
    lanes_column: Grid
    threads: Grid
    registers: Grid
    shared_bytes: Grid
    resident: Grid
    blocks: Grid
    terms: Grid


def needs(problem: Contraction, target: Target, values: Mapping[str, Grid]) -> Needs:
    """What points occupy; values are those of the knobs, by name."""
    row, column = values["tile_row"], values["tile_column"]
    thread_row, thread_column = values["thread_row"], values["thread_column"]
    depth, step = values["warps_depth"], values["step"]
    across = np.clip(column // thread_column, 1, 8)
    lanes_row = np.maximum(1, np.minimum(WARP // across, row // thread_row))
    threads = np.maximum(1, row * column // (thread_row * thread_column) * depth)
    sharing = values["cluster"] * values["splits"]
    terms = ceil_div(ceil_div(problem.k, step), sharing) * step
    stage = _stage_floats(problem.a, row, thread_row, step) + _stage_floats(
        problem.b, column, thread_column, step
    )
    layers = depth * values["cluster"]
    shared = 4 * np.maximum(values["stages"] * stage, np.where(layers > 1, row * column * depth, 0))
    registers = (
        thread_row * thread_column
        + _fragment(problem.a, problem.m, problem.k, thread_row)
        + _fragment(problem.b, problem.n, problem.k, thread_column)
        + ADDRESS_REGISTERS
    )
    resident = resident_blocks(
        target, threads=threads, registers=registers, shared_bytes=shared, most_threads=2048
    )
    return Needs(
        lanes_row=lanes_row,
        lanes_column=WARP // lanes_row,
        threads=threads,
        registers=registers,
        shared_bytes=shared,
        resident=resident,
        blocks=ceil_div(problem.m, row) * ceil_div(problem.n, column) * problem.batch * sharing,
        terms=terms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Estimated cycles of a launch, of the busiest multiprocessor.

    Attributes:
        total: All of it.
        arithmetic: Multiplying at the rate that the warps in flight allow.
        shared: Reading operands from shared memory.
        memory: Filling shared memory.
        warps: Warps in flight.
        idle: Multiprocessors' share without work at the end.
    """

    total: Grid
    arithmetic: Grid
    shared: Grid
    memory: Grid
    warps: Grid
    idle: Grid


def costs(problem: Contraction, target: Target, values: Mapping[str, Grid], needed: Needs) -> Costs:
    """Estimated times of points that can run."""
    row, column = values["tile_row"], values["tile_column"]
    thread_row, thread_column = values["thread_row"], values["thread_column"]
    per_core = ceil_div(needed.blocks, target.n_cores)
    at_once = np.clip(needed.resident, 1, per_core)
    warps = needed.threads // WARP * at_once
    terms = np.minimum(needed.terms, problem.k)
    fluent = warps * np.sqrt(thread_row * thread_column) / 4
    arithmetic = per_core * row * column * terms / FMA_PER_CYCLE * (1 + 2.2 / fluent)
    reads = (thread_row + thread_column) / MOST_VECTOR / SHARED_READS_PER_CYCLE
    shared = per_core * needed.threads / WARP * terms / values["warps_depth"] * reads
    moved = per_core * (row + column) * terms * 4
    flying = at_once * (values["stages"] - 1) * (row + column) * values["step"] * 4
    flying = np.minimum(flying, at_once * (row + column) * terms * 4)
    memory = np.maximum(
        moved / np.minimum(CACHE_BYTES_PER_CYCLE, flying / MEMORY_LATENCY_CYCLES),
        4
        * problem.elements
        / target.n_cores
        / np.minimum(MEMORY_BYTES_PER_CYCLE, flying / MEMORY_LATENCY_CYCLES),
    )
    added = per_core * row * column * values["warps_depth"]
    rounds = ceil_div(per_core, np.maximum(1, needed.resident))
    busy = np.maximum(arithmetic, shared)
    total = (
        START_CYCLES
        + np.maximum(busy, memory)
        + OVERLAP * np.minimum(busy, memory)
        + rounds
        * (
            BLOCK_CYCLES
            + ceil_div(terms, values["step"]) * STEP_CYCLES
            + np.where(values["warps_depth"] > 1, LAYERS_CYCLES, 0)
        )
        + np.where(values["warps_depth"] > 1, added / SHARED_FLOATS_PER_CYCLE, 0)
        + meeting_cycles(values["cluster"], added)
        + np.where(values["splits"] > 1, LAUNCH_CYCLES, 0)
    )
    return Costs(
        total=total,
        arithmetic=arithmetic,
        shared=shared,
        memory=memory,
        warps=warps,
        idle=1 - needed.blocks / (per_core * target.n_cores),
    )


def meeting_cycles(cluster: Grid, floats: Grid) -> Grid:
    """Cycles until the blocks of clusters have added ``floats`` of each multiprocessor."""
    fixed = CLUSTER_CYCLES + CLUSTER_DOUBLING_CYCLES * np.log2(cluster)
    return np.where(cluster > 1, fixed + floats * cluster / REMOTE_FLOATS_PER_CYCLE, 0)


def _fragment(operand: Operand, extent: int, terms: int, thread: Grid) -> Grid:
    """Registers of the own rows at the terms that are read at once, and of addresses to copy."""
    held = 4 * thread if by_depth(operand) else thread
    copied = chunk(operand, line_lengths(operand, extent, terms, MOST_VECTOR))
    return held + (0 if copied == MOST_VECTOR else SMALL_COPY_REGISTERS)


def _stage_floats(operand: Operand, tile: Grid, thread: Grid, step: Grid) -> Grid:
    padding = tile // np.minimum(MOST_VECTOR, thread) * 4 if by_depth(operand) else 0
    return tile * step + padding
