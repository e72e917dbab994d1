"""What points of the few-rows family need and about how long they take, for whole grids.

As in :mod:`schedules.matmul_simt_costs`, times are cycles of a multiprocessor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schedules.contraction import Contraction
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_rows_cuda import (
    PADDING_FLOATS,
    ROWS_PER_TILE,
    terms_per_block,
    unit_columns,
    unit_loads,
    unit_terms,
)
from schedules.matmul_simt_costs import (
    BLOCK_CYCLES,
    LAUNCH_CYCLES,
    MEMORY_BYTES_PER_CYCLE,
    MEMORY_LATENCY_CYCLES,
    START_CYCLES,
    meeting_cycles,
)
from schedules.matmul_simt_cuda import WARP, by_depth
from schedules.resident_blocks import resident_blocks
from schedules.target import Target

CORE_BYTES_PER_CYCLE = 24.0
ADDRESS_REGISTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        columns: Of a block.
        threads: Of a block.
        loads: Of 16 bytes of the matrix that a thread waits for at once.
        registers: Of a thread, estimated from above.
        shared_bytes: Of a block.
        resident: Blocks that fit a multiprocessor; below 1 if none does.
        blocks: Of the launch.
        terms: Of one block.
    """

    columns: Grid
    threads: Grid
    loads: Grid
    registers: Grid
    shared_bytes: Grid
    resident: Grid
    blocks: Grid
    terms: Grid


def needs(problem: Contraction, target: Target, values: Mapping[str, Grid]) -> Needs:
    """What points occupy; values are those of the knobs, by name."""
    units, flight = values["units"], values["in_flight"]
    columns = units * values["warps_column"] * unit_columns(problem)
    threads = WARP * values["warps_column"] * values["warps_depth"]
    sharing = values["cluster"] * values["splits"]
    tiles = ceil_div(problem.m, ROWS_PER_TILE)
    loads = units * flight * unit_loads(problem)
    sums = units * tiles * (unit_columns(problem) // 16) * 4
    rows = flight * tiles * (4 if by_depth(problem.b) else 2)
    registers = 4 * loads + sums + rows + ADDRESS_REGISTERS
    shared = 4 * values["warps_depth"] * problem.m * (columns + PADDING_FLOATS)
    resident = resident_blocks(
        target, threads=threads, registers=registers, shared_bytes=shared, most_threads=2048
    )
    return Needs(
        columns=columns,
        threads=threads,
        loads=loads,
        registers=registers,
        shared_bytes=shared,
        resident=resident,
        blocks=ceil_div(problem.n, columns) * problem.batch * sharing,
        terms=terms_per_block(problem, flight, sharing),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Estimated cycles of a launch, of the busiest multiprocessor.

    Attributes:
        total: All of it.
        memory: Reading the matrix and the rows.
        flying_bytes: Of the matrix, asked for at once by a multiprocessor.
        steps: Of a warp, one after the other.
        idle: Multiprocessors' share without work at the end.
    """

    total: Grid
    memory: Grid
    flying_bytes: Grid
    steps: Grid
    idle: Grid


def costs(problem: Contraction, target: Target, values: Mapping[str, Grid], needed: Needs) -> Costs:
    """Estimated times of points that can run."""
    per_core = ceil_div(needed.blocks, target.n_cores)
    at_once = np.clip(needed.resident, 1, per_core)
    terms = np.minimum(needed.terms, problem.k)
    step = values["in_flight"] * unit_terms(problem)
    steps = ceil_div(ceil_div(terms, step), values["warps_depth"])
    flying = at_once * needed.threads * needed.loads * 16
    busy = np.minimum(1.0, terms / (steps * values["warps_depth"] * step))
    rate = np.minimum(CORE_BYTES_PER_CYCLE, flying * busy / MEMORY_LATENCY_CYCLES)
    own = per_core * terms * 2 * (needed.columns + values["warps_column"] * problem.m)
    whole = 2 * problem.k * problem.n * problem.batch / target.n_cores
    share = np.minimum(MEMORY_BYTES_PER_CYCLE, flying * busy / MEMORY_LATENCY_CYCLES)
    memory = np.maximum(own / rate, whole / share)
    rounds = ceil_div(per_core, np.maximum(1, needed.resident))
    added = problem.m * needed.columns * values["warps_depth"] / needed.threads
    total = (
        START_CYCLES
        + memory
        + rounds * (BLOCK_CYCLES + 4 * added)
        + meeting_cycles(
            values["cluster"], per_core * problem.m * needed.columns * values["warps_depth"]
        )
        + np.where(values["splits"] > 1, LAUNCH_CYCLES, 0)
    )
    return Costs(
        total=total,
        memory=memory,
        flying_bytes=flying,
        steps=steps,
        idle=1 - needed.blocks / (per_core * target.n_cores),
    )
