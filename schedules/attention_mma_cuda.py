"""CUDA text and launch of attention by products of warps (``schedules/cuda/attention_mma.cuh``)."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2
from typing import Any

from schedules.attention_decode_problem import DecodeProblem, size_constants
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.judged_space import Grid, ceil_div
from schedules.workload import Workload

WARP = 32
HEADERS = (
    "ampere.cuh",
    "quad.cuh",
    "warp_tiles.cuh",
    "attention_mma_scores.cuh",
    "attention_mma_reach.cuh",
    "attention_mma_blocks.cuh",
    "attention_mma.cuh",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMmaSchedule:
    """Decisions of one program.

    Attributes:
        warps: Of a block, each with query rows of its own.
        row_tiles: Times 16 query rows of a warp.
        key_tile: Keys of one step, a multiple of 16.
        stages: Steps whose keys and values are in shared memory.
        kept: Whether queries stay in registers, else they are read again at every step.
        longest_first: Whether the tiles with most keys of all heads come first.
        min_blocks: Blocks that a multiprocessor must be able to hold.
    """

    warps: int
    row_tiles: int
    key_tile: int
    stages: int
    kept: bool
    longest_first: bool
    min_blocks: int


def line_bytes(width: int) -> int:
    """Distance of neighbouring rows in shared memory; ``warp_tiles::Lines`` in the device code."""
    pieces = 2 * -(-width // 16)
    turned = pieces % 8 == 0 or pieces in (2, 4)
    return 16 * (pieces if turned else pieces + 1)


def shared_bytes(
    problem: DecodeProblem, *, rows: Grid, key_tile: Grid, stages: Grid, kept: Grid
) -> Grid:
    """Dynamic shared memory of a block; numbers or arrays of them."""
    import numpy as np

    plain = problem.plain
    query = rows * line_bytes(plain.width)
    lines = line_bytes(plain.width) + line_bytes(plain.value_width)
    streamed = stages * key_tile * lines
    tiles = np.where(kept, np.maximum(query, streamed), query + streamed)
    # The numbers of key tiles of which a mask in blocks leaves something, and how many.
    listed = 4 * (ceil_div(plain.keys, key_tile) + 1) if problem.patterns is not None else 0
    return tiles + ceil_div(listed, 16) * 16


def n_blocks(problem: DecodeProblem, rows: Grid) -> Grid:
    """Blocks of ``rows`` queries."""
    plain = problem.plain
    return plain.batch * plain.heads * ceil_div(plain.queries, rows)


def attention_mma_cuda(
    workload: Workload, problem: DecodeProblem, schedule: AttentionMmaSchedule
) -> Any:
    """The ``PrimFunc`` of one launch."""
    return cuda_program(workload, [launch(problem, schedule)])


def launch(problem: DecodeProblem, schedule: AttentionMmaSchedule) -> CudaLaunch:
    """See :func:`attention_mma_cuda`."""
    query, key, value, result = problem.plain.names
    extras = {
        "mask": problem.mask,
        "patterns": problem.patterns,
        "starts": problem.starts,
        "lengths": problem.lengths,
    }
    present = {role: spec.name for role, spec in extras.items() if spec is not None}
    rows = 16 * schedule.row_tiles * schedule.warps
    return CudaLaunch(
        function="attention_mma",
        source=f"{_config_text(problem, schedule)}\n{_entry_text(list(present))}",
        headers=tuple(map(device_code, HEADERS)),
        arguments=(query, key, value, *present.values(), result),
        grid=(int(n_blocks(problem, rows)),),
        block=(WARP * schedule.warps,),
        shared_bytes=int(
            shared_bytes(
                problem,
                rows=rows,
                key_tile=schedule.key_tile,
                stages=schedule.stages,
                kept=schedule.kept,
            )
        ),
        min_blocks=schedule.min_blocks,
    )


def _entry_text(extras: list[str]) -> str:
    """The launched function: inputs that are not there become null pointers."""
    types = {
        "mask": "Config::mask_type",
        "patterns": "int",
        "starts": "int",
        "lengths": "Config::length_type",
    }
    parameters = [f"const Config::element* {role}" for role in ("q", "k", "v")]
    parameters += [f"const {types[role]}* {role}" for role in extras]
    given = [role if role in extras else "nullptr" for role in types]
    return (
        "__device__ __forceinline__ void attention_mma("
        f"{', '.join(parameters)}, Config::element* out, unsigned char* raw) {{\n"
        "  effcompile_attention_mma::run<Config>("
        f"q, k, v, {', '.join(given)}, out, raw);\n}}\n"
    )


def _config_text(problem: DecodeProblem, schedule: AttentionMmaSchedule) -> str:
    types = {
        "element": problem.plain.dtype,
        "mask_type": "bool" if problem.mask is None else problem.mask.dtype,
        "length_type": "int32" if problem.lengths is None else problem.lengths.dtype,
    }
    constants = {**_sizes(problem), **_decisions(schedule)}
    return "\n".join(
        [
            "struct Config {",
            *(f"  typedef {CUDA_TYPES[dtype]} {name};" for name, dtype in types.items()),
            *(f"  static constexpr int {name} = {value};" for name, value in constants.items()),
            *(f"  static constexpr float {k} = {v!r}f;" for k, v in _factors(problem).items()),
            "};",
        ]
    )


def _decisions(schedule: AttentionMmaSchedule) -> dict[str, int]:
    return {
        "WARPS": schedule.warps,
        "ROW_TILES": schedule.row_tiles,
        "KEY_TILE": schedule.key_tile,
        "STAGES": schedule.stages,
        "KEPT": int(schedule.kept),
        "LONGEST_FIRST": int(schedule.longest_first),
    }


def _sizes(problem: DecodeProblem) -> dict[str, int]:
    return {
        **size_constants(problem),
        "BATCH_HEADS": problem.plain.batch * problem.plain.heads,
        "STARTS": 0 if problem.starts is None else problem.starts.shape[0],
        "MASK_PAIRS": int(_has_pairs(problem)),
    }


def _has_pairs(problem: DecodeProblem) -> bool:
    """Whether two neighbours of the mask that begin at an even key are aligned together."""
    *outer, key = problem.mask_strides
    return key == 1 and problem.plain.keys % 2 == 0 and all(step % 2 == 0 for step in outer)


def _factors(problem: DecodeProblem) -> dict[str, float]:
    """Scores times SCALE_LOG2 are powers of two; a mask counts MASK_UNIT times in scores."""
    scale, cap = problem.plain.scale, problem.softcap
    return {
        "SCALE_LOG2": (cap or scale) * log2(e),
        "MASK_UNIT": 1 / (cap or scale),
        "CAP_EXPONENT": 2 * log2(e) * scale / (cap or 1.0),
    }
