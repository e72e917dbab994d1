"""The CUDA programs of attention with few queries: constants before a fixed text."""

from __future__ import annotations

from collections.abc import Mapping
from math import e, log2
from typing import Any

from schedules.attention_decode_problem import DecodeProblem
from schedules.attention_decode_schedule import (
    PANEL_ELEMENTS,
    DecodeSchedule,
    box_keys,
    n_passes,
    partial_floats,
    shared_bytes,
)
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.workload import TensorSpec, Workload

PARTIAL = "partial_results"
# Of tensor maps: memory is fetched in pieces of 256 bytes.
L2_PROMOTION = 3


def attention_decode(workload: Workload, problem: DecodeProblem, schedule: DecodeSchedule) -> Any:
    """The bound program of a schedule."""
    text = device_text(problem, schedule)
    hopper = ["hopper.cuh"] if schedule.loads == "tiles" else []
    names = ("ampere.cuh", "early_launch.cuh", *hopper)
    headers = tuple(map(device_code, names))
    query, _, _, result = problem.plain.names
    partial = schedule.splits > 1 and schedule.combine != "cluster"
    groups, passes = problem.groups, n_passes(problem, schedule)
    main = CudaLaunch(
        function="decode_main",
        source=text + _main_source(_extras(problem), partial=partial),
        headers=headers,
        arguments=(
            query,
            *_tokens(problem, schedule),
            *_extras(problem).values(),
            result,
            *([PARTIAL] if partial else []),
        ),
        grid=(schedule.splits, passes, groups),
        block=(schedule.n_threads,),
        shared_bytes=shared_bytes(problem, schedule),
        # Else the compiler at times spills far below the registers that a block may have.
        min_blocks=1,
        early=schedule.early,
        cluster=schedule.splits if schedule.combine == "cluster" else 1,
    )
    if not partial:
        return cuda_program(workload, [main])
    shape = (groups * passes * partial_floats(problem, schedule),)
    workspace = TensorSpec(name=PARTIAL, shape=shape, dtype="float32")
    return cuda_program(workload, [main], workspaces=[workspace])


def _extras(problem: DecodeProblem) -> dict[str, str]:
    """Inputs beside queries, keys and values: role to name."""
    table = problem.pages.table if problem.pages else None
    extras = {"table": table, "mask": problem.mask, "lengths": problem.lengths}
    return {role: spec.name for role, spec in extras.items() if spec is not None}


def _tokens(
    problem: DecodeProblem, schedule: DecodeSchedule
) -> tuple[TensorMap, TensorMap] | tuple[str, str]:
    """Keys and values as a launch wants them."""
    plain, pages = problem.plain, problem.pages
    keys, groups = (
        (pages.tokens, pages.n_pages * plain.kv_heads) if pages else (plain.keys, problem.groups)
    )
    _, key, value, _ = plain.names
    if schedule.loads == "pieces":
        return key, value
    made = [
        TensorMap(
            buffer=name,
            shape=(width, keys, groups),
            strides_bytes=(2 * width, 2 * width * keys),
            box=(PANEL_ELEMENTS, box_keys(problem, schedule), 1),
            l2_promotion=L2_PROMOTION,
        )
        for name, width in ((key, plain.width), (value, plain.value_width))
    ]
    return made[0], made[1]


def _main_source(extras: Mapping[str, str], *, partial: bool) -> str:
    """A function with the parameters that exist around the one that takes all."""
    types = {"table": "const int*", "mask": "const mask_t*", "lengths": "const length_t*"}
    parameters = ["const elem* query", "Tokens key", "Tokens value"]
    parameters += [f"{types[role]} {role}" for role in extras]
    parameters += ["elem* y", *(["float* partial"] if partial else []), "unsigned char* arena"]
    given = ["query", "key", "value"]
    given += [role if role in extras else "nullptr" for role in types]
    given += ["y", "partial" if partial else "nullptr", "arena"]
    return (
        f"__device__ __forceinline__ void decode_main({', '.join(parameters)}) {{\n"
        f"  attention_decode({', '.join(given)});\n}}\n"
    )


def device_text(problem: DecodeProblem, schedule: DecodeSchedule) -> str:
    """All of the kernel but its headers and its entry."""
    loads = schedule.loads
    names = ("instructions", "reach", "slots", loads, "scores", "softmax", "combine")
    files = [*(f"attention_decode_{name}.cuh" for name in names), "attention_decode.cuh"]
    return "\n".join([constants(problem, schedule), *map(device_code, files)])


def constants(problem: DecodeProblem, schedule: DecodeSchedule) -> str:
    """What ``attention_decode*.cuh`` want defined before it."""
    types = {
        "elem": problem.plain.dtype,
        "length_t": "int32" if problem.lengths is None else problem.lengths.dtype,
        "mask_t": "bool" if problem.mask is None else problem.mask.dtype,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in _sizes(problem, schedule)]
    lines += [
        f"constexpr bool {name} = {str(value).lower()};"
        for name, value in _flags(problem, schedule)
    ]
    lines += [f"constexpr float {name} = {value!r}f;" for name, value in _factors(problem)]
    lines += [f"typedef {CUDA_TYPES[dtype]} {name};" for name, dtype in types.items()]
    return "\n".join([*lines, ""])


def _sizes(problem: DecodeProblem, schedule: DecodeSchedule) -> list[tuple[str, int]]:
    plain = problem.plain
    mask = {None: 0, "bool": 1}.get(None if problem.mask is None else problem.mask.dtype, 2)
    strides = zip(("BATCH", "HEAD", "QUERY", "KEY"), problem.mask_strides, strict=True)
    return [
        ("WARPS", schedule.warps),
        ("SUBS", schedule.tiles),
        ("DEPTH", schedule.in_flight),
        ("PASS_ROWS", schedule.rows),
        ("SPLITS", schedule.splits),
        ("GROUPS", problem.groups),
        ("KV_HEADS", plain.kv_heads),
        ("GROUP_ROWS", problem.group_rows),
        ("QUERIES", plain.queries),
        ("KEYS", plain.keys),
        ("WIDTH", plain.width),
        ("VALUE_WIDTH", plain.value_width),
        ("BOX_KEYS", box_keys(problem, schedule)),
        ("PAGE", problem.pages.tokens if problem.pages else 0),
        ("N_PAGES", problem.pages.n_pages if problem.pages else 0),
        ("OFFSET", plain.offset),
        ("LEFT", plain.left or 0),
        ("RIGHT", plain.right or 0),
        ("MASK", mask),
        *((f"MASK_{name}", stride) for name, stride in strides),
    ]


def _flags(problem: DecodeProblem, schedule: DecodeSchedule) -> list[tuple[str, bool]]:
    plain = problem.plain
    return [
        ("IS_HALF", plain.dtype == "float16"),
        ("COMBINES_LAST", schedule.combine == "last_block" and schedule.splits > 1),
        ("EARLY", schedule.early),
        ("RELEASES_AT_ONCE", schedule.release == "at_once"),
        ("IN_CLUSTER", schedule.combine == "cluster"),
        ("HAS_LEFT", plain.left is not None),
        ("HAS_RIGHT", plain.right is not None),
        ("HAS_LENGTHS", problem.lengths is not None),
        ("AT_END", problem.at_end),
        ("HAS_SOFTCAP", bool(problem.softcap)),
        ("SCALES_FIRST", _scales_first(problem)),
    ]


def _scales_first(problem: DecodeProblem) -> bool:
    """Whether scores are needed as they are: for a mask or a soft cap."""
    return problem.mask is not None or bool(problem.softcap)


def _factors(problem: DecodeProblem) -> list[tuple[str, float]]:
    """Scores are scaled first, or leave the products as they are; times UNIT, powers of two."""
    scale = problem.plain.scale
    return [
        ("SCALE", scale),
        ("UNIT", log2(e) if _scales_first(problem) else scale * log2(e)),
        ("SOFTCAP", problem.softcap or 1.0),
    ]
