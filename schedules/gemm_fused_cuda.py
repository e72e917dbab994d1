"""CUDA text and launches of products that unpack a matrix in registers while they multiply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from schedules.contraction import Contraction, Side
from schedules.cuda_kernel import CudaLaunch, TensorMap, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.gemm_dequant_cuda import ACTIVATIONS, contractions_of
from schedules.gemv_dequant_cuda import POINTERS
from schedules.gemv_dequant_problem import GemvProblem
from schedules.matmul_cuda import COPIER_AND_MULTIPLIER_REGISTERS, HEADERS, K_STEP, WARPGROUP
from schedules.packing import FRAGMENT_DEPTH, TILE_COLUMNS, WORDS_PER_LOAD
from schedules.product_ending import parameters, product_launches
from schedules.wgmma import wgmma_registers

TEXT_PARTS = ("packed_codes.cuh", "gemm_fused_pieces.cuh", "gemm_fused.cuh")
ROWS_PER_WARPGROUP = 64
# Of a warpgroup on their way out: four warps with 16 lines of 16 floats and 4 more.
SUM_BYTES = 4 * 16 * (16 + 4) * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedSchedule:
    """Decisions of one program.

    Attributes:
        multipliers: Warpgroups that multiply, each 64 packed columns.
        tile_column: Rows of ``x`` of a tile, a multiple of 16.
        stages: Steps of ``x`` in flight.
        blocks_per_core: Blocks that share a multiprocessor.
        group: Tiles along the packed columns that are visited before other rows of ``x``.
        splits: Parts of the sum that different blocks compute.
        cluster: Neighbouring blocks, with tiles of the same rows of ``x``, that copy these once.
        ahead: Pieces of codes that a thread has asked for or holds, an even number.
        turns: Whether warpgroups multiply one after the other, each making floats meanwhile.
        n_blocks: Blocks of a launch; each takes every ``n_blocks``-th tile. 0: one per tile.
    """

    multipliers: int
    tile_column: int
    stages: int
    blocks_per_core: int
    group: int
    splits: int
    cluster: int
    ahead: int
    turns: bool
    n_blocks: int = 0

    @property
    def tile_row(self) -> int:
        """Packed columns of a tile."""
        return ROWS_PER_WARPGROUP * self.multipliers

    @property
    def stage_bytes(self) -> int:
        """Bytes of one stage: ``x`` alone, since codes go to registers."""
        return self.tile_column * K_STEP * 2

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory: stages, their alignment, two barriers for each, sums of warps."""
        return 1024 + self.stages * (self.stage_bytes + 16) + self.multipliers * SUM_BYTES

    def blocks_of(self, works: int) -> int:
        """Blocks of a launch with so many tiles."""
        return min(self.n_blocks or works, works)


def piece_depth(problem: GemvProblem) -> int:
    """Codes of a column that are read at once: whole units, and whole steps of a stage."""
    return max(problem.unit_depth, K_STEP)


def piece_groups(problem: GemvProblem) -> int:
    """Parts of a piece that may have scales of their own."""
    piece, group = piece_depth(problem), problem.group
    if group % piece == 0:
        return 1
    return piece // (group if piece % group == 0 else FRAGMENT_DEPTH)


def piece_registers(problem: GemvProblem, schedule: FusedSchedule) -> int:
    """What pieces of codes, scales and zero points take of a thread."""
    loads = problem.n_loads * piece_depth(problem) // problem.unit_depth
    per_group = 2 if problem.has_zeros else 1
    return schedule.ahead * (WORDS_PER_LOAD * loads + per_group * piece_groups(problem))


def tiles_of_output(problem: GemvProblem, output: int) -> int:
    """Packed tiles of 16 columns behind an output."""
    return problem.first_tiles[output + 1] - problem.first_tiles[output]


def row_tiles(problem: GemvProblem, schedule: FusedSchedule, output: int) -> int:
    """Tiles of the launch of an output along its packed columns."""
    return -(-tiles_of_output(problem, output) * TILE_COLUMNS // schedule.tile_row)


def n_works(problem: GemvProblem, schedule: FusedSchedule, output: int) -> int:
    """Tiles of the launch of an output, of all parts of the sum."""
    columns = -(-problem.rows // schedule.tile_column)
    return row_tiles(problem, schedule, output) * columns * schedule.splits


def steps_per_split(problem: GemvProblem, splits: int) -> int:
    """Steps of 64 terms, as many as whole pieces have."""
    pieces = -(-problem.depth // piece_depth(problem))
    return -(-pieces // splits) * (piece_depth(problem) // K_STEP)


def endings_of(problem: GemvProblem) -> list[Contraction]:
    """What follows the sums of each output; of a gate and the other matrix, their product."""
    if not problem.gated:
        return contractions_of(problem)
    return contractions_of(replace(problem, gated=False, activation=""))


def launches(problem: GemvProblem, schedule: FusedSchedule) -> list[CudaLaunch]:
    """A launch per output, or two if parts of the sum are added in a second one."""
    made: list[CudaLaunch] = []
    for numbered in enumerate(endings_of(problem)):
        product = partial(_product, problem, schedule, numbered)
        made += product_launches(numbered[1], schedule.splits, product)
    return made


def _product(
    problem: GemvProblem,
    schedule: FusedSchedule,
    numbered: tuple[int, Contraction],
    ending: str,
    sides: list[Side],
) -> CudaLaunch:
    """The launch of an output: its number and what it is."""
    output, contraction = numbered
    roles = [role for role in ("codes", "scales", "zeros") if role in problem.inputs]
    works = n_works(problem, schedule, output)
    depth, rows = problem.depth, problem.rows
    x = TensorMap(
        buffer=problem.inputs["x"],
        shape=(depth, rows),
        strides_bytes=(2 * depth,),
        box=(K_STEP, schedule.tile_column // schedule.cluster),
    )
    parts = (
        ending,
        _constants(problem, output),
        _config(problem, schedule, contraction, output),
        *map(device_code, TEXT_PARTS),
        _wrapper(problem, roles, sides),
    )
    return CudaLaunch(
        function="gemm_fused",
        source="\n".join(parts),
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*(side.buffer for side in sides), *(problem.inputs[role] for role in roles), x),
        grid=(schedule.blocks_of(works),),
        block=(WARPGROUP * (schedule.multipliers + 1),),
        shared_bytes=schedule.shared_bytes,
        min_blocks=schedule.blocks_per_core,
        cluster=schedule.cluster,
    )


def _wrapper(problem: GemvProblem, roles: Sequence[str], sides: list[Side]) -> str:
    """The launch's function around the one that takes everything."""
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    packed = ", ".join(f"{POINTERS[role]} {role}" for role in roles)
    zeros = "zeros" if problem.has_zeros else "nullptr"
    return (
        f"__device__ __forceinline__ void gemm_fused({parameters(sides)}, {packed}, "
        f"const CUtensorMap& x, unsigned char* raw) {{\n"
        f"  multiply_packed<Config, Ending>(codes, scales, {zeros}, x, {{{names}}}, raw);\n}}\n"
    )


def _constants(problem: GemvProblem, output: int) -> str:
    sizes = {
        "BITS": problem.bits,
        "UNIT_K": problem.unit_depth,
        "LOADS": problem.n_loads,
        "GROUP_K": problem.group,
        "PIECE_K": piece_depth(problem),
        "PIECE_GROUPS": piece_groups(problem),
        "N_TILES": problem.n_tiles,
        "N_UNITS": problem.n_units,
        "N_GROUPS": problem.n_groups,
        "FIRST_TILE": problem.first_tiles[output],
        "HAS_ZEROS": int(problem.has_zeros),
        "GATED": int(problem.gated),
        "IS_HALF": int(problem.dtype == "float16"),
    }
    lines = [f"constexpr int {name} = {value};" for name, value in sizes.items()]
    return "\n".join([*lines, f"typedef {CUDA_TYPES[problem.dtype]} elem;"])


def _config(
    problem: GemvProblem, schedule: FusedSchedule, contraction: Contraction, output: int
) -> str:
    copier, multiplier = COPIER_AND_MULTIPLIER_REGISTERS[
        schedule.multipliers, schedule.blocks_per_core
    ]
    works = n_works(problem, schedule, output)
    constants = {
        "SWAPPED": 1,
        "ROWS": contraction.n,
        "COLUMNS": contraction.m,
        "BATCH": 1,
        "TILE_ROW": schedule.tile_row,
        "TILE_COLUMN": schedule.tile_column,
        "TILES_ROW": row_tiles(problem, schedule, output),
        "TILES_COLUMN": -(-problem.rows // schedule.tile_column),
        "GROUP": schedule.group,
        "STEPS": -(-problem.depth // K_STEP),
        "STEPS_PER_SPLIT": steps_per_split(problem, schedule.splits),
        "STAGES": schedule.stages,
        "STAGE_BYTES": schedule.stage_bytes,
        "MULTIPLIERS": schedule.multipliers,
        "WORKS": works,
        "BLOCKS": schedule.blocks_of(works),
        "CLUSTER": schedule.cluster,
        "PARTS": 1,
        "AHEAD": schedule.ahead,
        "TURNS": int(schedule.turns),
        "COPIER_REGISTERS": copier,
        "MULTIPLIER_REGISTERS": multiplier,
    }
    lines = [f"  static constexpr int {name} = {value};" for name, value in constants.items()]
    n = schedule.tile_column
    terms = wgmma_registers("multiply_terms", n=n, dtype=problem.dtype)
    return "\n".join(
        [
            terms,
            "struct Config {",
            *lines,
            "  static __device__ __forceinline__ void multiply(",
            f"      float (&d)[{n // 2}], const hopper::u32* a, hopper::u64 b, int keep) {{",
            "    multiply_terms(d, a, b, keep);",
            "  }",
            "  static __device__ __forceinline__ float joined(float gate, float other) {",
            f"    return ({ACTIVATIONS[problem.activation].format('gate')}) * other;",
            "  }",
            "};",
        ]
    )
