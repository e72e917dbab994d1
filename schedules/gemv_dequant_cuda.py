"""The CUDA program of products with quantised matrices: constants before a fixed text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.gemv_dequant_problem import GemvProblem
from schedules.packing import TILE_COLUMNS
from schedules.workload import TensorSpec, Workload

INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
MOST_STEP_UNITS = 4
ROWS_PER_PASS = 16
SUM_THREADS = 128
PARTIAL = "partial_sums"
# Row strides of this many elements modulo 64 keep rows of x in different memory banks.
STRIDE_REMAINDER = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class GemvSchedule:
    """The decisions of one point.

    Attributes:
        warps_k: Warps of a block that share the depth.
        warps_n: Warps of a block with columns of their own.
        tiles: Tiles of 16 columns per warp.
        in_flight: Steps whose loads are outstanding at once.
        blocks_k: Blocks that share the depth; more than one needs a second launch.
        x_shared: Whether x is copied to shared memory first.
    """

    warps_k: int
    warps_n: int
    tiles: int
    in_flight: int
    blocks_k: int
    x_shared: bool

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_k * self.warps_n

    @property
    def block_tiles(self) -> int:
        """Tiles of a block."""
        return self.warps_n * self.tiles


def step_units(problem: GemvProblem) -> int:
    """Units that are fetched together: a group's, if these are few."""
    per_group = problem.group // problem.unit_depth
    fitting = [n for n in range(1, MOST_STEP_UNITS + 1) if per_group and per_group % n == 0]
    return max(fitting, default=1)


def step_groups(problem: GemvProblem) -> int:
    """Scales of a column per step."""
    return max(1, problem.unit_depth // problem.group)


def n_steps(problem: GemvProblem) -> int:
    """Steps along the whole depth."""
    return -(-problem.n_units // step_units(problem))


def x_stride(problem: GemvProblem, schedule: GemvSchedule) -> int:
    """Elements between rows of x in shared memory."""
    steps = -(-n_steps(problem) // schedule.blocks_k)
    length = steps * step_units(problem) * problem.unit_depth
    return length + (STRIDE_REMAINDER - length) % 64


def shared_bytes(problem: GemvProblem, schedule: GemvSchedule) -> int:
    """Dynamic shared memory: sums of the warps, and x."""
    rows = min(problem.rows, ROWS_PER_PASS)
    sums = schedule.warps_k * schedule.block_tiles * TILE_COLUMNS * rows * 4
    # A row of zeros serves the columns of a fragment that x does not fill.
    held = rows if rows % 8 == 0 else rows + 1
    return sums + (2 * held * x_stride(problem, schedule) if schedule.x_shared else 0)


def gemv_cuda(workload: Workload, problem: GemvProblem, schedule: GemvSchedule) -> Any:
    """The bound program of a schedule."""
    roles = _roles(problem)
    names = dict(zip(roles, problem.names, strict=True))
    text = constants(problem, schedule) + device_code("gemv_dequant.cuh")
    partial = schedule.blocks_k > 1
    main = CudaLaunch(
        function="gemv_main",
        source=text + _main_source(roles, partial=partial),
        headers=(INCLUDES,),
        arguments=(*(names[role] for role in roles[:-1]), PARTIAL if partial else names["y"]),
        grid=(
            -(-problem.n_tiles // schedule.block_tiles),
            schedule.blocks_k,
            -(-problem.rows // ROWS_PER_PASS),
        ),
        block=(schedule.n_threads,),
        shared_bytes=shared_bytes(problem, schedule),
    )
    if not partial:
        return cuda_program(workload, [main])
    size = problem.rows * problem.n_columns
    total = CudaLaunch(
        function="gemv_sum",
        source=text + _sum_source(has_bias=problem.has_bias),
        headers=(INCLUDES,),
        arguments=(PARTIAL, *([names["bias"]] if problem.has_bias else []), names["y"]),
        grid=(-(-size // SUM_THREADS),),
        block=(SUM_THREADS,),
    )
    workspace = TensorSpec(name=PARTIAL, shape=(schedule.blocks_k * size,), dtype="float32")
    return cuda_program(workload, [main, total], workspaces=[workspace])


def _roles(problem: GemvProblem) -> list[str]:
    optional = [("zeros", problem.has_zeros), ("bias", problem.has_bias)]
    return ["x", "codes", "scales", *(role for role, there in optional if there), "y"]


TYPES = {
    "x": "const elem*",
    "codes": "const unsigned*",
    "scales": "const elem*",
    "zeros": "const unsigned char*",
    "bias": "const elem*",
    "y": "elem*",
}


def _main_source(roles: list[str], *, partial: bool) -> str:
    """A function with the parameters that exist around the one that takes all."""
    present = [role for role in roles if role != "y"]
    parameters = [f"{TYPES[role]} {role}" for role in present]
    parameters.append("float* partial" if partial else "elem* y")
    inner = [role if role in present else "nullptr" for role in list(TYPES)[:-1]]
    inner += ["nullptr", "partial"] if partial else ["y", "nullptr"]
    return (
        f"__device__ __forceinline__ void gemv_main({', '.join(parameters)}, "
        f"unsigned char* arena) {{\n  gemv_dequant({', '.join(inner)}, arena);\n}}\n"
    )


def _sum_source(*, has_bias: bool) -> str:
    bias = "const elem* bias, " if has_bias else ""
    return (
        f"__device__ __forceinline__ void gemv_sum(const float* partial, {bias}elem* y) {{\n"
        f"  gemv_dequant_sum(partial, {'bias' if has_bias else 'nullptr'}, y);\n}}\n"
    )


def constants(problem: GemvProblem, schedule: GemvSchedule) -> str:
    """What ``gemv_dequant.cuh`` wants defined before it."""
    values = {
        "BITS": problem.bits,
        "UNIT_K": problem.unit_depth,
        "LOADS": problem.n_loads,
        "GROUP_K": problem.group,
        "N_TILES": problem.n_tiles,
        "N_COLUMNS": problem.n_columns,
        "N_UNITS": problem.n_units,
        "N_GROUPS": problem.n_groups,
        "K": problem.depth,
        "M": problem.rows,
        "M_PASS": min(problem.rows, ROWS_PER_PASS),
        "STEP_UNITS": step_units(problem),
        "STEP_GROUPS": step_groups(problem),
        "WARPS_K": schedule.warps_k,
        "WARPS_N": schedule.warps_n,
        "TILES": schedule.tiles,
        "DEPTH": schedule.in_flight,
        "BLOCKS_K": schedule.blocks_k,
        "X_STRIDE": x_stride(problem, schedule),
    }
    flags = {
        "HAS_ZEROS": problem.has_zeros,
        "HAS_BIAS": problem.has_bias,
        "IS_HALF": problem.dtype == "float16",
        "X_SHARED": schedule.x_shared,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in values.items()]
    lines += [f"constexpr bool {name} = {str(value).lower()};" for name, value in flags.items()]
    lines.append(f"typedef {'half' if problem.dtype == 'float16' else 'nv_bfloat16'} elem;")
    return "\n".join([*lines, ""])
