"""CUDA text and launch of float32 attention on ordinary arithmetic units."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2
from typing import Any

from schedules.attention_problem import AttentionProblem
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.judged_space import Grid, ceil_div
from schedules.workload import Workload

WARP = 32
LARGEST_AND_TOTAL_FLOATS = 4
HEADERS = ("ampere.cuh", "attention_simt.cuh")


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
    workload: Workload, problem: AttentionProblem, schedule: AttentionSimtSchedule
) -> Any:
    """The ``PrimFunc`` of one launch."""
    return cuda_program(workload, [launch(problem, schedule)])


def launch(problem: AttentionProblem, schedule: AttentionSimtSchedule) -> CudaLaunch:
    """See :func:`attention_simt_cuda`."""
    values = {
        "rows": schedule.rows,
        "warps_row": schedule.warps_row,
        "warps_key": schedule.warps_key,
        "key_tile": schedule.key_tile,
        "stages": schedule.stages,
    }
    source = (
        f"{_config_text(problem, values)}\n"
        "__device__ __forceinline__ void attention_simt(const float* q, const float* k, "
        "const float* v, float* out, unsigned char* raw) {\n"
        "  effcompile_attention_simt::run<Config>(q, k, v, out, raw);\n}\n"
    )
    return CudaLaunch(
        function="attention_simt",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=problem.names,
        grid=(int(n_blocks(problem, values)),),
        block=(WARP * schedule.warps_row * schedule.warps_key,),
        shared_bytes=4 * int(shared_floats(problem, values)),
        min_blocks=schedule.min_blocks,
    )


def vector(problem: AttentionProblem) -> int:
    """Neighbouring columns that a lane reads at once."""
    return next(size for size in (4, 2, 1) if problem.value_width % (WARP * size) == 0 or size == 1)


def _config_text(problem: AttentionProblem, values: dict[str, int]) -> str:
    constants = {
        "HEADS": problem.heads,
        "KV_HEADS": problem.kv_heads,
        "QUERIES": problem.queries,
        "KEYS": problem.keys,
        "WIDTH": problem.width,
        "VALUE_WIDTH": problem.value_width,
        "OFFSET": problem.offset,
        "LEFT": -1 if problem.left is None else problem.left,
        "RIGHT": -1 if problem.right is None else problem.right,
        "VECTOR": vector(problem),
        **{name.upper(): value for name, value in values.items()},
    }
    return "\n".join(
        [
            "struct Config {",
            *(f"  static constexpr int {name} = {value};" for name, value in constants.items()),
            f"  static constexpr float SCALE_LOG2 = {problem.scale * log2(e)!r}f;",
            "};",
        ]
    )
