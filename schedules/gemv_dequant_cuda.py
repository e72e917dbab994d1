"""The CUDA program of products with quantised matrices: constants before a fixed text."""

from __future__ import annotations

from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.gemv_dequant_layout import (
    MOST_WRITTEN_OUT,
    GemvSchedule,
    arena,
    chunk_depth,
    digits,
    held_steps,
    rows_per_pass,
    step_groups,
    step_units,
    together,
)
from schedules.gemv_dequant_problem import (
    ACTIVATIONS,
    GATED_COLUMNS,
    GemvProblem,
)
from schedules.packing import TILE_COLUMNS
from schedules.workload import TensorSpec, Workload

INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
SUM_THREADS = 128
PARTIAL = "partial_sums"
FIRST_PARTS = ("gemv_memory", "gemv_numbers", "gemv_shapes", "gemv_source")
DIGIT_PARTS = ("gemv_x", "gemv_codes")
FLOAT_PARTS = ("packed_codes", "gemv_floats")
LAST_PARTS = ("gemv_ending", "gemv_dequant")
ENDING = ("bias", "residual", "x_scales")
POINTERS = {
    "x": "const x_elem*",
    "codes": "const unsigned*",
    "scales": "const elem*",
    "zeros": "const unsigned char*",
    "bias": "const elem*",
    "residual": "const elem*",
    "x_scales": "const scale_elem*",
}


def gemv_cuda(workload: Workload, problem: GemvProblem, schedule: GemvSchedule) -> Any:
    """The bound program of a schedule: one launch, or a second that adds parts of the depth."""
    if not _is_partial(schedule):
        return cuda_program(workload, [_main(problem, schedule)])
    shape = (schedule.blocks_k, problem.rows, problem.n_tiles * TILE_COLUMNS)
    workspace = TensorSpec(name=PARTIAL, shape=shape, dtype="float32")
    launches = [_main(problem, schedule), _sum(problem, schedule)]
    return cuda_program(workload, launches, workspaces=[workspace])


def kernel_text(schedule: GemvSchedule) -> str:
    """The device code, after :func:`constants`."""
    own = FLOAT_PARTS if schedule.floats else DIGIT_PARTS
    parts = (*FIRST_PARTS, *own, *LAST_PARTS)
    return "\n".join(device_code(f"{part}.cuh") for part in parts)


def _is_partial(schedule: GemvSchedule) -> bool:
    """Whether sums of blocks meet in device memory."""
    return schedule.blocks_k > 1 and not schedule.cluster


def grid_of(problem: GemvProblem, schedule: GemvSchedule) -> tuple[int, int, int]:
    """Blocks of the first launch; those of a cluster are neighbours along x."""
    passes = -(-problem.rows // int(rows_per_pass(problem, schedule)))
    if schedule.cluster:
        return schedule.blocks_n * schedule.blocks_k, 1, passes
    return schedule.blocks_n, schedule.blocks_k, passes


def _main(problem: GemvProblem, schedule: GemvSchedule) -> CudaLaunch:
    partial = _is_partial(schedule)
    roles = [role for role in problem.inputs if not (partial and role in ENDING)]
    call = f"x, {_weights(roles)}, {_ending(problem, roles, stored=not partial)}"
    body = f"gemv_dequant({call}, {'partial' if partial else 'nullptr'}, arena);"
    results = ["float* partial"] if partial else _results(problem)
    return CudaLaunch(
        function="gemv_main",
        source=_source(problem, schedule)
        + _function("gemv_main", [*_pointers(roles), *results, "unsigned char* arena"], body),
        headers=(INCLUDES, device_code("early_launch.cuh")),
        arguments=(
            *(problem.inputs[role] for role in roles),
            *([PARTIAL] if partial else problem.outputs),
        ),
        grid=grid_of(problem, schedule),
        block=(schedule.n_threads,),
        shared_bytes=int(arena(problem, schedule).size),
        early=schedule.early,
        cluster=schedule.blocks_k if schedule.cluster else 1,
    )


def _sum(problem: GemvProblem, schedule: GemvSchedule) -> CudaLaunch:
    roles = [role for role in problem.inputs if role in ENDING]
    body = f"gemv_dequant_sum(partial, {_ending(problem, roles, stored=True)});"
    parameters = ["const float* partial", *_pointers(roles), *_results(problem)]
    width = GATED_COLUMNS if problem.gated else TILE_COLUMNS
    return CudaLaunch(
        function="gemv_sum",
        source=_source(problem, schedule) + _function("gemv_sum", parameters, body),
        headers=(INCLUDES, device_code("early_launch.cuh")),
        arguments=(PARTIAL, *(problem.inputs[role] for role in roles), *problem.outputs),
        grid=(-(-problem.rows * problem.n_tiles * width // SUM_THREADS),),
        block=(SUM_THREADS,),
        early=schedule.early,
    )


def _source(problem: GemvProblem, schedule: GemvSchedule) -> str:
    return constants(problem, schedule) + kernel_text(schedule)


def _function(name: str, parameters: list[str], body: str) -> str:
    """A function with the parameters that exist around the one that takes all."""
    return f"__device__ __forceinline__ void {name}({', '.join(parameters)}) {{\n  {body}\n}}\n"


def _pointers(roles: list[str]) -> list[str]:
    return [f"{POINTERS[role]} {role}" for role in roles]


def _results(problem: GemvProblem) -> list[str]:
    return [f"elem* y{i}" for i in range(len(problem.outputs))]


def _weights(roles: list[str]) -> str:
    return f"Weights{{codes, scales, {'zeros' if 'zeros' in roles else 'nullptr'}}}"


def _ending(problem: GemvProblem, roles: list[str], *, stored: bool) -> str:
    """``struct Ending`` with the pointers that exist."""
    given = [role if role in roles else "nullptr" for role in ENDING]
    outputs = [f"y{i}" if stored else "nullptr" for i in range(len(problem.outputs))]
    return f"Ending{{{', '.join(given)}, {{{', '.join(outputs)}}}}}"


def constants(problem: GemvProblem, schedule: GemvSchedule) -> str:
    """What ``gemv_dequant.cuh`` wants defined before its parts."""
    lines = [f"constexpr int {name} = {value};" for name, value in _sizes(problem, schedule)]
    flags = {
        "HAS_ZEROS": problem.has_zeros,
        "HAS_BIAS": problem.has_bias,
        "HAS_RESIDUAL": problem.has_residual,
        "GATED": problem.gated,
        "IS_INT8": problem.is_int8,
        "IS_HALF": problem.dtype == "float16",
        "SCALE_PER_ROW": problem.scale_per_row,
        "BULK": schedule.bulk,
        "IN_CLUSTER": schedule.cluster,
        "EARLY": schedule.early,
        "OWN_X": not together(schedule),
    }
    lines += [f"constexpr bool {name} = {str(value).lower()};" for name, value in flags.items()]
    lines.append(f"enum {{ {', '.join(_activation_name(one) for one in ACTIVATIONS)} }};")
    lines.append(f"constexpr int ACTIVATION = {_activation_name(problem.activation)};")
    types = {
        "elem": problem.dtype,
        "x_elem": problem.x_dtype,
        "scale_elem": problem.scale_dtype,
    }
    lines += [f"typedef {CUDA_TYPES[dtype]} {name};" for name, dtype in types.items()]
    return "\n".join([*lines, _places(problem), ""])


def _activation_name(activation: str) -> str:
    return activation.upper() or "NONE"


def _sizes(problem: GemvProblem, schedule: GemvSchedule) -> list[tuple[str, int]]:
    places = arena(problem, schedule)
    return [
        ("BITS", problem.bits),
        ("UNIT_K", problem.unit_depth),
        ("LOADS", problem.n_loads),
        ("GROUP_K", problem.group),
        ("N_TILES", problem.n_tiles),
        ("N_UNITS", problem.n_units),
        ("N_GROUPS", problem.n_groups),
        ("K", problem.depth),
        ("M", problem.rows),
        ("M_PASS", rows_per_pass(problem, schedule)),
        ("DIGITS", digits(problem, schedule)),
        ("STEP_UNITS", step_units(problem)),
        ("STEP_GROUPS", step_groups(problem)),
        ("CHUNK_K", chunk_depth(problem)),
        ("WARPS_K", schedule.warps_k),
        ("WARPS_N", schedule.warps_n),
        ("BLOCKS_N", schedule.blocks_n),
        ("BLOCKS_K", schedule.blocks_k),
        ("IN_FLIGHT", schedule.in_flight),
        ("PIECE", schedule.piece),
        ("MOST_WRITTEN_OUT", MOST_WRITTEN_OUT),
        ("HELD_STEPS", held_steps(problem, schedule)),
        ("TABLE", places.table),
        ("HELD", places.held),
        ("REDUCED", places.reduced),
        ("MET", places.met),
        ("RING", places.ring),
        ("X_STRIDE", places.x_stride),
    ]


def _places(problem: GemvProblem) -> str:
    """The outputs, and which of them a tile belongs to."""
    names = [f"y{i}" for i in range(len(problem.outputs))]
    firsts = problem.first_tiles
    choices = [
        f"  if (tile < {firsts[i + 1]}) return {{outputs.{name}, {firsts[i]}, {columns}}};"
        for i, (name, columns) in enumerate(zip(names[:-1], problem.columns, strict=False))
    ]
    last = f"  return {{outputs.{names[-1]}, {firsts[-2]}, {problem.columns[-1]}}};"
    return "\n".join(
        [
            f"struct Outputs {{ elem {', '.join(f'*{name}' for name in names)}; }};",
            "struct Place { elem* y; int first_tile, columns; };",
            "__device__ __forceinline__ Place place_of(const Outputs& outputs, int tile) {",
            *choices,
            last,
            "}",
        ]
    )
