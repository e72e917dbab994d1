"""Masked attention for compute capability 9.0: the blocks of the mask, and attention over them."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.attention_hopper import HopperSchedule, Pattern, attention_launch
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code, early_headers
from schedules.dtypes import CUDA_TYPES
from schedules.mask_tiles import GRAIN, MaskTiles
from schedules.masked_problem import TILES, MaskedProblem
from schedules.workload import TensorSpec, Workload

INDEX, PATTERNS, PARTIAL = "mask_index", "mask_patterns", "partial_results"
INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
WARPS = 4
LOWEST_BIAS = -1e38


def masked_attention(workload: Workload, problem: MaskedProblem, schedule: HopperSchedule) -> Any:
    """The ``PrimFunc``."""
    workspaces = []
    if problem.kind != TILES:
        workspaces.append(TensorSpec(name=INDEX, shape=problem.index_shape, dtype="int32"))
        workspaces.append(TensorSpec(name=PATTERNS, shape=problem.patterns_shape, dtype="int32"))
    if schedule.splits > 1:
        n_kept = partial_floats(problem, schedule)
        workspaces.append(TensorSpec(name=PARTIAL, shape=(n_kept,), dtype="float32"))
    return cuda_program(workload, launches(problem, schedule), workspaces=workspaces)


def launches(problem: MaskedProblem, schedule: HopperSchedule) -> list[CudaLaunch]:
    """Finding the blocks of a mask that comes with the call, attention, combining splits."""
    made = [attention_launch(problem.plain, schedule, tiles_pattern(problem, schedule))]
    if problem.kind != TILES:
        made.insert(0, find_launch(problem, early=schedule.early))
    if schedule.splits > 1:
        made.append(combine_launch(problem, schedule))
    return made


def partial_floats(problem: MaskedProblem, schedule: HopperSchedule) -> int:
    """Of all splits: values, a maximum and a sum per row."""
    return schedule.splits * _rows(problem) * (problem.plain.value_width + 2)


def _rows(problem: MaskedProblem) -> int:
    plain = problem.plain
    return plain.batch * plain.heads * plain.queries


def tiles_pattern(problem: MaskedProblem, schedule: HopperSchedule) -> Pattern:
    """Blocks that are not empty; bits, and what is added, where they are mixed."""
    batch, heads, rows, _ = problem.index_shape
    parts = schedule.key_tile // GRAIN
    additive = problem.kind == "float"
    strides = problem.mask_strides if additive else (0, 0, 0, 0)
    return Pattern(
        files=("attention_tiles.cuh",),
        constants={
            "MASK_ROWS": rows,
            "BATCH_PLANES": heads if batch > 1 else 0,
            "HEAD_PLANES": int(heads > 1),
            "LONGEST_FIRST": int(schedule.longest_first),
            "ADDITIVE": int(additive),
            "RANGES": int(problem.has_ranges),
            "RANGE_ROWS": problem.found_rows,
            "PERIOD": problem.period,
            "SPLITS": schedule.splits,
            **dict(
                zip((f"BIAS_{x}" for x in ("BATCH", "HEAD", "ROW", "KEY")), strides, strict=True)
            ),
        },
        tables=_tables(problem, schedule),
        sources=_sources(problem, schedule),
        plan_bytes=plan_bytes(schedule),
        parts=parts,
        softcap=problem.softcap,
        follows=problem.kind != TILES,
    )


def _sources(problem: MaskedProblem, schedule: HopperSchedule) -> dict[str, tuple[str, str]]:
    mask, patterns = problem.mask, problem.patterns
    sources = {"index": (INDEX, "const int"), "patterns": (PATTERNS, "const int")}
    if mask is not None and patterns is not None:
        sources = {"index": (mask.name, "const int"), "patterns": (patterns.name, "const int")}
    elif mask is not None and problem.kind == "float":
        sources["bias"] = (mask.name, f"const {CUDA_TYPES[mask.dtype]}")
    if schedule.splits > 1:
        sources["partial"] = (PARTIAL, "float")
    return sources


def plan_bytes(schedule: HopperSchedule) -> int:
    """Shared memory of the device's ``Plan``, in whole 16 bytes."""
    parts = schedule.key_tile // GRAIN
    numbers = parts * (1 + schedule.warpgroups) + 1
    return -(-4 * numbers * schedule.stages // 16) * 16


def _tables(problem: MaskedProblem, schedule: HopperSchedule) -> str:
    """The order of query tiles, and what an added mask is multiplied by."""
    order = ", ".join(map(str, query_order(problem, schedule)))
    additive = problem.kind == "float" and problem.mask is not None
    bias = CUDA_TYPES[problem.mask.dtype] if additive and problem.mask is not None else "float"
    return "\n".join(
        [
            f"__constant__ const unsigned short QUERY_ORDER[] = {{{order}}};",
            f"constexpr float INVERSE_SCALE = {1 / problem.plain.scale!r}f;",
            f"constexpr float LOWEST_BIAS = {LOWEST_BIAS!r}f;",
            f"typedef {bias} bias_t;",
        ]
    )


def query_order(problem: MaskedProblem, schedule: HopperSchedule) -> list[int]:
    """Query tiles, those with most blocks first; from the end where the mask is not known."""
    n_tiles = -(-problem.plain.queries // schedule.query_tile)
    if problem.known is None or problem.index_shape[2] == 1:
        return list(range(n_tiles))[::-1]
    lengths = tile_lengths(problem.known, schedule.warpgroups).sum(axis=(0, 1))
    return [int(tile) for tile in np.argsort(-lengths, kind="stable")]


def tile_lengths(tiles: MaskTiles, warpgroups: int) -> np.ndarray:
    """Blocks of keys that query tiles load; (batch or 1, heads or 1, query tiles)."""
    live = tiles.index != 0
    starts = np.arange(0, live.shape[2], warpgroups)
    return np.asarray(np.logical_or.reduceat(live, starts, axis=2).sum(axis=3))


def find_launch(problem: MaskedProblem, *, early: bool = False) -> CudaLaunch:
    """Index, and patterns or ranges, from what comes with the call.

    Args:
        problem: What comes.
        early: Whether the attention may start meanwhile.
    """
    batch, heads, row_blocks, key_blocks = problem.index_shape
    types = {"mask": "tiles::mask_t", "lengths": "tiles::length_t", "starts": "int"}
    specs = {"mask": problem.mask, "lengths": problem.lengths, "starts": problem.starts}
    given = {role: spec.name for role, spec in specs.items() if spec is not None}
    parameters = "".join(f"const {types[role]}* {role}, " for role in given)
    members = ", ".join(role if role in given else "nullptr" for role in types)
    return CudaLaunch(
        function="find_tiles",
        headers=early_headers(early, INCLUDES),
        source="\n".join(
            [
                "namespace tiles {",
                *_constants(problem),
                "}",
                device_code("mask_tiles.cuh"),
                f"__device__ __forceinline__ void find_tiles({parameters}int* index, int* rest) {{",
                "  early::release_next_kernel();" if early else "",
                f"  tiles::find(tiles::Given{{{members}}}, index, rest);",
                "}",
            ]
        ),
        arguments=(*given.values(), INDEX, PATTERNS),
        grid=(-(-key_blocks // WARPS), row_blocks, batch * heads),
        block=(32 * WARPS,),
    )


def _constants(problem: MaskedProblem) -> list[str]:
    plain, mask, lengths = problem.plain, problem.mask, problem.lengths
    strides = zip(("BATCH", "HEAD", "ROW", "KEY"), problem.mask_strides, strict=True)
    numbers = {
        "WARPS": WARPS,
        "ROWS": problem.found_rows,
        "PERIOD": problem.period,
        "GROUP": problem.group,
        "KEYS": plain.keys,
        "OFFSET": plain.offset,
        "HAS_LEFT": int(plain.left is not None),
        "LEFT": plain.left or 0,
        "HAS_RIGHT": int(plain.right is not None),
        "RIGHT": plain.right or 0,
        "HAS_LENGTHS": int(lengths is not None),
        "AT_END": int(problem.at_end),
        "SEQUENCES": 0 if problem.starts is None else problem.starts.shape[0] - 1,
        "HAS_MASK": int(mask is not None),
        "HEAD_PLANES": problem.index_shape[1],
        **{f"MASK_{name}": stride for name, stride in strides},
    }
    mask_dtype = "bool" if mask is None else mask.dtype
    return [
        *(f"constexpr int {name} = {value};" for name, value in numbers.items()),
        f"typedef {CUDA_TYPES[mask_dtype]} mask_t;",
        f"typedef {'bool' if mask_dtype == 'bool' else 'float'} value_t;",
        f"typedef {CUDA_TYPES['int32' if lengths is None else lengths.dtype]} length_t;",
    ]


def combine_launch(problem: MaskedProblem, schedule: HopperSchedule) -> CudaLaunch:
    """The result from what is kept of splits."""
    plain = problem.plain
    rows = _rows(problem)
    numbers = {
        "WARPS": WARPS,
        "SPLITS": schedule.splits,
        "VALUE_WIDTH": plain.value_width,
    }
    return CudaLaunch(
        function="combine_splits",
        headers=early_headers(schedule.early, INCLUDES),
        source="\n".join(
            [
                "namespace splits {",
                *(f"constexpr int {name} = {value};" for name, value in numbers.items()),
                f"constexpr long long ROWS = {rows};",
                f"typedef {CUDA_TYPES[plain.dtype]} element;",
                "}",
                device_code("attention_splits.cuh"),
                "__device__ __forceinline__ void combine_splits(const float* partial, "
                "splits::element* out) {",
                "  early::wait_for_previous_kernel();" if schedule.early else "",
                "  splits::combine(partial, out);",
                "}",
            ]
        ),
        arguments=(PARTIAL, plain.names[3]),
        grid=(-(-rows // WARPS),),
        block=(32 * WARPS,),
        early=schedule.early,
    )
