"""CUDA text and launches of one product by tensor cores of warps (``matmul_mma.cuh``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from schedules.contraction import Contraction, Side
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_simt_cuda import GROUP_ROWS, WARP, by_depth, chunk, line_lengths
from schedules.product_ending import parameters, partial_sums, product_launches
from schedules.workload import Workload

HEADERS = (
    "product_ending.cuh",
    "ampere.cuh",
    "quad.cuh",
    "warp_tiles.cuh",
    "product_store.cuh",
    "matmul_mma.cuh",
)
CHUNKS = (8, 4, 2, 1)
SLOWER_PRODUCTS = {"sm_86": 4.0, "sm_89": 4.0, "sm_120": 4.0}
"""How many times longer a warp's product takes than on 8.0 and 9.0: GeForce cards with sums in
float32, by their published rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MmaSchedule:
    """Decisions of one program; all numbers are powers of two, but for the stages.

    Attributes:
        tile_row: Rows of a block's tile.
        tile_column: Columns of it.
        warps_row: Warps of a block along the rows.
        warps_column: Warps along the columns.
        step: Terms of one stage.
        stages: Tiles in flight, and the one that is multiplied.
        splits: Blocks that share the terms of a tile, whose parts a second launch adds.
        min_blocks: Blocks that a multiprocessor must be able to hold.
    """

    tile_row: int
    tile_column: int
    warps_row: int
    warps_column: int
    step: int
    stages: int
    splits: int
    min_blocks: int

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return WARP * self.warps_row * self.warps_column


def n_tiles(problem: Contraction, tile_row: Grid, tile_column: Grid) -> Grid:
    """Tiles of all batches; numbers or arrays of them."""
    return ceil_div(problem.m, tile_row) * ceil_div(problem.n, tile_column) * problem.batch


def steps_per_split(problem: Contraction, step: Grid, splits: Grid) -> Grid:
    """Steps of one block."""
    return ceil_div(ceil_div(problem.k, step), splits)


def stage_bytes(tile_row: Grid, tile_column: Grid, step: Grid) -> Grid:
    """Shared memory of one stage: lines that are powers of two long need no padding."""
    return 2 * (tile_row + tile_column) * step


def matmul_mma_cuda(workload: Workload, problem: Contraction, schedule: MmaSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if a second one adds the parts of the sums."""
    split = partial_sums(problem, schedule.splits)
    return cuda_program(workload, launches(problem, schedule), workspaces=split)


def launches(problem: Contraction, schedule: MmaSchedule) -> list[CudaLaunch]:
    """See :func:`matmul_mma_cuda`."""
    return product_launches(problem, schedule.splits, partial(_product, problem, schedule))


def _product(
    problem: Contraction, schedule: MmaSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    element = CUDA_TYPES[problem.dtype]
    source = (
        f"{ending}\n{_config_text(problem, schedule)}\n"
        f"__device__ __forceinline__ void matmul_mma({parameters(sides)}, "
        f"const {element}* a, const {element}* b, unsigned char* raw) {{\n"
        f"  effcompile_mma::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    tiles = n_tiles(problem, schedule.tile_row, schedule.tile_column)
    stage = stage_bytes(schedule.tile_row, schedule.tile_column, schedule.step)
    return CudaLaunch(
        function="matmul_mma",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*(side.buffer for side in sides), problem.a.buffer, problem.b.buffer),
        grid=(tiles * schedule.splits,),
        block=(schedule.n_threads,),
        shared_bytes=schedule.stages * stage,
        min_blocks=schedule.min_blocks,
    )


def _config_text(problem: Contraction, schedule: MmaSchedule) -> str:
    constants = {
        "THREADS": schedule.n_threads,
        "STEP": schedule.step,
        "STAGES": schedule.stages,
        "SPLITS": schedule.splits,
        "STEPS_PER_SPLIT": steps_per_split(problem, schedule.step, schedule.splits),
        "ROWS": problem.m,
        "COLUMNS": problem.n,
        "BATCH": problem.batch,
        "TERMS": problem.k,
        "GROUP": GROUP_ROWS,
        "SWAPPED": 0,
    }
    a, b = (_operand_text(name, problem, schedule) for name in "AB")
    lines = [f"  static constexpr int {name} = {value};" for name, value in constants.items()]
    return "\n".join([a, b, "struct Config {", "  using A = A_;", "  using B = B_;", *lines, "};"])


def _operand_text(name: str, problem: Contraction, schedule: MmaSchedule) -> str:
    operand, extent, tile, warps = {
        "A": (problem.a, problem.m, schedule.tile_row, schedule.warps_row),
        "B": (problem.b, problem.n, schedule.tile_column, schedule.warps_column),
    }[name]
    steps = {"ROW": operand.row, "DEPTH": operand.depth, "BATCH": operand.batch}
    constants = {
        "EXTENT": extent,
        "TILE": tile,
        "WARP": tile // warps,
        "CHUNK": chunk(operand, line_lengths(operand, extent, problem.k, tile), CHUNKS),
        "BY_DEPTH": int(by_depth(operand)),
    }
    return "\n".join(
        [
            f"struct {name}_ {{",
            *(f"  static constexpr long long {key} = {value};" for key, value in steps.items()),
            *(f"  static constexpr int {key} = {value};" for key, value in constants.items()),
            "};",
        ]
    )
