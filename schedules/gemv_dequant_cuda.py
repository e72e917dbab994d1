"""The CUDA program of products with quantised matrices: constants before a fixed text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.gemv_dequant_problem import GemvProblem
from schedules.packing import TILE_COLUMNS
from schedules.workload import TensorSpec, Workload

INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
STEP_UNIT_CHOICES = (4, 2, 1)
# Depth over which codes times digits of x may be summed: then 24 bits hold every sum.
MOST_CHUNK = 128
ROWS_PER_PASS = 16
SUM_THREADS = 128
PARTIAL = "partial_sums"
# x is whole numbers of so many digits of base 256; see the text.
DIGITS = 3
# Strides of 64 modulo 128 bytes keep digits of x in different memory banks.
STRIDE_REMAINDER = 64
LOAD_BYTES = 512
GROUP_BYTES = 2 * TILE_COLUMNS
BULK = "bulk"


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
    """

    warps_k: int
    warps_n: int
    blocks_n: int
    blocks_k: int
    in_flight: int
    piece: int
    bulk: bool
    early: bool

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_k * self.warps_n

    def most_tiles(self, problem: GemvProblem) -> int:
        """Tiles of the group of warps that has most."""
        return -(-problem.n_tiles // (self.blocks_n * self.warps_n))


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


def slot_bytes(problem: GemvProblem, schedule: GemvSchedule) -> int:
    """Codes, scales and zero points of one bulk copy; see ``SLOT_BYTES`` in the text."""
    units = step_units(problem)
    straddles = problem.group > units * problem.unit_depth
    groups = schedule.piece * step_groups(problem) + straddles
    per_group = GROUP_BYTES + (TILE_COLUMNS if problem.has_zeros else 0)
    return schedule.piece * units * problem.n_loads * LOAD_BYTES + groups * per_group


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where things lie in dynamic shared memory, in bytes; barriers come first.

    Attributes:
        table: Sums and factors of the digits of the chunks of x.
        held: Digits of x.
        reduced: Sums of the warps.
        ring: Bulk copies.
        size: All together.
        x_stride: Between digits.
    """

    table: int
    held: int
    reduced: int
    ring: int
    size: int
    x_stride: int


def arena(problem: GemvProblem, schedule: GemvSchedule) -> Arena:
    """The layout of a schedule's shared memory."""
    rows, warps = min(problem.rows, ROWS_PER_PASS), schedule.warps_k * schedule.warps_n
    apart = schedule.warps_k + (4 if schedule.warps_k % 8 == 0 else 0)
    slots = warps * schedule.in_flight if schedule.bulk else 0
    step_depth = step_units(problem) * problem.unit_depth
    length = -(-n_steps(problem) // schedule.blocks_k) * step_depth
    stride = length + (STRIDE_REMAINDER - length) % 128
    columns = DIGITS * rows
    table = _aligned(8 * slots)
    held = table + 8 * (length // chunk_depth(problem)) * -(-columns // 8) * 8
    reduced = held + _aligned(columns * stride)
    sums = schedule.warps_n * schedule.most_tiles(problem) * TILE_COLUMNS * columns * apart
    ring = reduced + 4 * sums
    size = ring + slots * slot_bytes(problem, schedule)
    return Arena(table=table, held=held, reduced=reduced, ring=ring, size=size, x_stride=stride)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // 16) * 16


def gemv_cuda(workload: Workload, problem: GemvProblem, schedule: GemvSchedule) -> Any:
    """The bound program of a schedule."""
    roles = _roles(problem)
    names = dict(zip(roles, problem.names, strict=True))
    text = constants(problem, schedule) + kernel_text()
    partial = schedule.blocks_k > 1
    main = CudaLaunch(
        function="gemv_main",
        source=text + _main_source(roles, partial=partial),
        headers=(INCLUDES,),
        arguments=(*(names[role] for role in roles[:-1]), PARTIAL if partial else names["y"]),
        grid=(
            schedule.blocks_n,
            schedule.blocks_k,
            -(-problem.rows // ROWS_PER_PASS),
        ),
        block=(schedule.n_threads,),
        shared_bytes=arena(problem, schedule).size,
        early=schedule.early,
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
        early=schedule.early,
    )
    workspace = TensorSpec(name=PARTIAL, shape=(schedule.blocks_k * size,), dtype="float32")
    return cuda_program(workload, [main, total], workspaces=[workspace])


def kernel_text() -> str:
    """The device code, after :func:`constants`."""
    parts = ("gemv_memory.cuh", "gemv_codes.cuh", "gemv_dequant.cuh")
    return "\n".join(device_code(part) for part in parts)


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
    places = arena(problem, schedule)
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
        "CHUNK_K": chunk_depth(problem),
        "WARPS_K": schedule.warps_k,
        "WARPS_N": schedule.warps_n,
        "BLOCKS_N": schedule.blocks_n,
        "BLOCKS_K": schedule.blocks_k,
        "IN_FLIGHT": schedule.in_flight,
        "PIECE": schedule.piece,
        "TABLE": places.table,
        "HELD": places.held,
        "REDUCED": places.reduced,
        "RING": places.ring,
        "X_STRIDE": places.x_stride,
    }
    flags = {
        "HAS_ZEROS": problem.has_zeros,
        "HAS_BIAS": problem.has_bias,
        "IS_HALF": problem.dtype == "float16",
        "BULK": schedule.bulk,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in values.items()]
    lines += [f"constexpr bool {name} = {str(value).lower()};" for name, value in flags.items()]
    lines.append(f"typedef {'half' if problem.dtype == 'float16' else 'nv_bfloat16'} elem;")
    return "\n".join([*lines, ""])
