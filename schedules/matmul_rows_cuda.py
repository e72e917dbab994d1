"""CUDA text and launches of a product of few rows with a matrix of half precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from schedules.contraction import Contraction, Side
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_simt_cuda import WARP, by_depth
from schedules.product_ending import (
    parameters,
    partial_sums,
    product_launches,
)
from schedules.workload import Workload

ROWS_PER_TILE = 8
LOADS_BY_DEPTH = 2
LOADS_BY_LINE = 4
PADDING_FLOATS = 4
HEADERS = ("product_ending.cuh", "ampere.cuh", "matmul_rows.cuh")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSchedule:
    """Decisions of one program.

    Attributes:
        units: Units of neighbouring columns per warp.
        warps_column: Warps of a block with columns of their own.
        warps_depth: Warps of a block that share the terms.
        in_flight: Units along the terms that a warp loads before it multiplies.
        cluster: Blocks that share the terms and add their parts themselves.
        splits: Blocks, or clusters, whose parts a second launch adds.
        min_blocks: Blocks that a multiprocessor must be able to hold.
    """

    units: int
    warps_column: int
    warps_depth: int
    in_flight: int
    cluster: int
    splits: int
    min_blocks: int


def unit_columns(problem: Contraction) -> int:
    """Columns of one unit."""
    return 16 if by_depth(problem.b) else 64


def unit_terms(problem: Contraction) -> int:
    """Terms of one unit."""
    return 32 if by_depth(problem.b) else 16


def unit_loads(problem: Contraction) -> int:
    """Loads of 16 bytes by each thread for one unit."""
    return LOADS_BY_DEPTH if by_depth(problem.b) else LOADS_BY_LINE


def matmul_rows_cuda(workload: Workload, problem: Contraction, schedule: RowsSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if a second one adds the parts of the sums."""
    split = partial_sums(problem, schedule.splits)
    return cuda_program(workload, launches(problem, schedule), workspaces=split)


def launches(problem: Contraction, schedule: RowsSchedule) -> list[CudaLaunch]:
    """See :func:`matmul_rows_cuda`."""
    return product_launches(problem, schedule.splits, partial(_product, problem, schedule))


def _product(
    problem: Contraction, schedule: RowsSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    element = CUDA_TYPES[problem.dtype]
    columns = schedule.units * schedule.warps_column * unit_columns(problem)
    threads = WARP * schedule.warps_column * schedule.warps_depth
    source = (
        f"{ending}\n{_config_text(problem, schedule, threads)}\n"
        f"__device__ __forceinline__ void matmul_rows({parameters(sides)}, "
        f"const {element}* x, const {element}* w, unsigned char* raw) {{\n"
        f"  effcompile_rows::run<Config, Ending>(x, w, {{{names}}}, raw);\n}}\n"
    )
    return CudaLaunch(
        function="matmul_rows",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*(side.buffer for side in sides), problem.a.buffer, problem.b.buffer),
        grid=(ceil_div(problem.n, columns) * problem.batch * schedule.splits * schedule.cluster,),
        block=(threads,),
        shared_bytes=4 * schedule.warps_depth * problem.m * (columns + PADDING_FLOATS),
        min_blocks=schedule.min_blocks,
        cluster=schedule.cluster,
    )


def terms_per_block(problem: Contraction, in_flight: Grid, splits: Grid) -> Grid:
    """Terms of one block: whole steps; numbers or arrays of them."""
    step = in_flight * unit_terms(problem)
    return ceil_div(ceil_div(problem.k, step), splits) * step


def _config_text(problem: Contraction, schedule: RowsSchedule, threads: int) -> str:
    terms = terms_per_block(problem, schedule.in_flight, schedule.splits * schedule.cluster)
    columns = schedule.units * schedule.warps_column * unit_columns(problem)
    constants = {
        "THREADS": threads,
        "M": problem.m,
        "N": problem.n,
        "ROW_TILES": ceil_div(problem.m, ROWS_PER_TILE),
        "BATCH": problem.batch,
        "TERMS": problem.k,
        "TERMS_PER_BLOCK": terms,
        "EVEN_BLOCKS": int(problem.k % terms == 0),
        "WHOLE_TERMS": int(problem.k % (schedule.in_flight * unit_terms(problem)) == 0),
        "WHOLE_COLUMNS": int(problem.n % columns == 0),
        "UNITS": schedule.units,
        "WARPS_COLUMN": schedule.warps_column,
        "WARPS_DEPTH": schedule.warps_depth,
        "IN_FLIGHT": schedule.in_flight,
        "SPLITS": schedule.splits,
        "CLUSTER": schedule.cluster,
        "BY_DEPTH": int(by_depth(problem.b)),
    }
    steps = {
        "X_ROW": problem.a.row,
        "X_BATCH": problem.a.batch,
        "W_COLUMN": problem.b.row,
        "W_TERM": problem.b.depth,
        "W_BATCH": problem.b.batch,
    }
    return "\n".join(
        [
            "struct Config {",
            *(f"  static constexpr int {name} = {value};" for name, value in constants.items()),
            *(f"  static constexpr long long {name} = {value};" for name, value in steps.items()),
            "};",
        ]
    )
