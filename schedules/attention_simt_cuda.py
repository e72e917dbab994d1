"""CUDA text and launch of float32 attention on ordinary arithmetic units."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2
from typing import Any

from schedules.attention_decode_problem import DecodeProblem, size_constants
from schedules.attention_problem import AttentionProblem
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.judged_space import Grid, ceil_div
from schedules.workload import Workload

WARP = 32
LARGEST_AND_TOTAL_FLOATS = 4
HEADERS = ("ampere.cuh", "attention_simt_hiding.cuh", "attention_simt.cuh")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSimtSchedule:
    """Decisions of one program.

    Attributes:
        rows: Queries of a warp.
        warps_row: Warps of a block with queries of their own.
        warps_key: Warps of a block with keys of their own.
        key_tile: Keys of a warp in one step, a multiple of 32.
        stages: Steps whose keys and values are in shared memory.
        min_blocks: Blocks that a multiprocessor must be able to hold.
    """

    rows: int
    warps_row: int
    warps_key: int
    key_tile: int
    stages: int
    min_blocks: int


def shared_floats(problem: AttentionProblem, values: dict[str, Grid]) -> Grid:
    """Floats of shared memory of a block; see the device code."""
    import numpy as np

    queries = values["rows"] * values["warps_row"]
    warps = values["warps_row"] * values["warps_key"]
    pitch = problem.width if problem.width // 4 % 2 else problem.width + 4
    keys = values["warps_key"] * values["key_tile"]
    streamed = (
        queries * problem.width
        + warps * values["rows"] * values["key_tile"]
        + values["stages"] * keys * (pitch + problem.value_width)
    )
    line = problem.value_width + LARGEST_AND_TOTAL_FLOATS
    return np.maximum(streamed, values["warps_key"] * queries * line)


def n_blocks(problem: AttentionProblem, values: dict[str, Grid]) -> Grid:
    """Blocks of the launch."""
    tiles = ceil_div(problem.queries, values["rows"] * values["warps_row"])
    return problem.batch * problem.heads * tiles


def attention_simt_cuda(
    workload: Workload, problem: DecodeProblem, schedule: AttentionSimtSchedule
) -> Any:
    """The ``PrimFunc`` of one launch."""
    return cuda_program(workload, [launch(problem, schedule)])


def launch(problem: DecodeProblem, schedule: AttentionSimtSchedule) -> CudaLaunch:
    """See :func:`attention_simt_cuda`."""
    values = {
        "rows": schedule.rows,
        "warps_row": schedule.warps_row,
        "warps_key": schedule.warps_key,
        "key_tile": schedule.key_tile,
        "stages": schedule.stages,
    }
    extras = {"mask": problem.mask, "patterns": problem.patterns, "lengths": problem.lengths}
    present = {role: spec.name for role, spec in extras.items() if spec is not None}
    *inputs, result = problem.plain.names
    return CudaLaunch(
        function="attention_simt",
        source=f"{_config_text(problem, values)}\n{_entry_text(list(present))}",
        headers=tuple(map(device_code, HEADERS)),
        arguments=(*inputs, *present.values(), result),
        grid=(int(n_blocks(problem.plain, values)),),
        block=(WARP * schedule.warps_row * schedule.warps_key,),
        shared_bytes=4 * int(shared_floats(problem.plain, values)),
        min_blocks=schedule.min_blocks,
    )


def vector(problem: AttentionProblem) -> int:
    """Neighbouring columns that a lane reads at once."""
    return next(size for size in (4, 2, 1) if problem.value_width % (WARP * size) == 0 or size == 1)


def _entry_text(extras: list[str]) -> str:
    """The launched function: inputs that are not there become null pointers."""
    types = {"mask": "Config::mask_type", "patterns": "int", "lengths": "Config::length_type"}
    parameters = [f"const float* {role}" for role in ("q", "k", "v")]
    parameters += [f"const {types[role]}* {role}" for role in extras]
    given = [role if role in extras else "nullptr" for role in types]
    return (
        "__device__ __forceinline__ void attention_simt("
        f"{', '.join(parameters)}, float* out, unsigned char* raw) {{\n"
        f"  effcompile_attention_simt::run<Config>(q, k, v, {', '.join(given)}, out, raw);\n}}\n"
    )


def _config_text(problem: DecodeProblem, values: dict[str, int]) -> str:
    types = {
        "mask_type": "bool" if problem.mask is None else problem.mask.dtype,
        "length_type": "int32" if problem.lengths is None else problem.lengths.dtype,
    }
    constants = _sizes(problem) | {name.upper(): value for name, value in values.items()}
    scale, cap = problem.plain.scale, problem.softcap
    factors = {
        "SCALE_LOG2": (cap or scale) * log2(e),
        "CAP_EXPONENT": 2 * log2(e) * scale / (cap or 1.0),
    }
    return "\n".join(
        [
            "struct Config {",
            *(f"  typedef {CUDA_TYPES[dtype]} {name};" for name, dtype in types.items()),
            *(f"  static constexpr int {name} = {value};" for name, value in constants.items()),
            *(f"  static constexpr float {name} = {value!r}f;" for name, value in factors.items()),
            "};",
        ]
    )


def _sizes(problem: DecodeProblem) -> dict[str, int]:
    return {**size_constants(problem), "VECTOR": vector(problem.plain)}
