"""The CUDA programs of attention with few queries: constants before a fixed text."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2
from typing import Any, Literal

from schedules.attention_decode_problem import DecodeProblem
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.workload import TensorSpec, Workload

INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
COMBINE_THREADS = 256
PARTIAL = "partial_results"
Combine = Literal["last_block", "launch", "cluster"]
C_TYPES = {
    "bool": "bool",
    "int32": "int",
    "int64": "int64_t",
    "float16": "half",
    "bfloat16": "nv_bfloat16",
    "float32": "float",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSchedule:
    """The decisions of one point.

    Attributes:
        warps: Of a block; they take steps of keys in turn.
        tiles: Tiles of 16 keys that a warp takes in one step.
        in_flight: Steps of a warp whose loads are outstanding at once.
        in_shared: Whether loads go to shared memory, else to registers.
        key_bytes: Of one key in a load of a warp: 64 or 128, at the price of twice the products.
        rows: Query rows of a block, a multiple of 8; more need further passes over the keys.
        splits: Blocks that share the keys of a group of rows.
        in_turns: Whether these blocks take steps in turn, else each has a range of its own.
        combine: Who combines what these blocks found: the ``last_block`` to finish, a second
            ``launch``, or the blocks together as a ``cluster`` (compute capability 9.0). The last
            block is found by counters that live in the loaded module and are zero again after
            every call: calls of one module must not overlap.
    """

    warps: int
    tiles: int
    in_flight: int
    in_shared: bool
    key_bytes: int
    rows: int
    splits: int
    in_turns: bool
    combine: Combine

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps

    @property
    def key_rows(self) -> int:
        """Loads that bring a lane its part of the keys of one tile."""
        return self.key_bytes // 64

    @property
    def step_keys(self) -> int:
        """Keys of one step of a warp."""
        return 16 * self.tiles


def step_pieces(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """16-byte pieces that a lane loads in one step."""
    key_rows, plain = schedule.key_rows, problem.plain
    keys = 2 * key_rows * -(-plain.width // (32 * key_rows))
    return schedule.tiles * (keys + 4 * -(-plain.value_width // 64))


def n_passes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Passes over the keys of a group."""
    return -(-problem.group_rows // schedule.rows)


def held_rows(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Rows of a block that exist."""
    return min(problem.group_rows, schedule.rows)


def shared_bytes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Dynamic shared memory of a block: loads in flight, later the results of its warps."""
    rows = held_rows(problem, schedule)
    ring = 512 * schedule.warps * schedule.in_flight * step_pieces(problem, schedule)
    own = schedule.warps + (schedule.combine == "cluster")
    results = 4 * own * rows * (problem.plain.value_width + 2)
    return max(ring if schedule.in_shared else 0, results)


def attention_decode(workload: Workload, problem: DecodeProblem, schedule: DecodeSchedule) -> Any:
    """The bound program of a schedule."""
    text = constants(problem, schedule) + device_code("attention_decode.cuh")
    query, key, value, result = problem.plain.names
    extras = {"mask": problem.mask, "lengths": problem.lengths}
    present = {role: spec.name for role, spec in extras.items() if spec is not None}
    partial = schedule.splits > 1 and schedule.combine != "cluster"
    groups, passes = problem.groups, n_passes(problem, schedule)
    main = CudaLaunch(
        function="decode_main",
        source=text + _main_source(list(present), partial=partial),
        headers=(INCLUDES,),
        arguments=(
            *(query, key, value, *present.values(), result),
            *([PARTIAL] if partial else []),
        ),
        grid=(schedule.splits, passes, groups),
        block=(schedule.n_threads,),
        shared_bytes=shared_bytes(problem, schedule),
        # Else the compiler at times spills far below the registers that a block may have.
        min_blocks=1,
        cluster=schedule.splits if schedule.combine == "cluster" else 1,
    )
    if not partial:
        return cuda_program(workload, [main])
    per_split = held_rows(problem, schedule) * (problem.plain.value_width + 2)
    shape = (groups * passes * schedule.splits * per_split,)
    workspace = TensorSpec(name=PARTIAL, shape=shape, dtype="float32")
    combine = CudaLaunch(
        function="decode_combine",
        source=text + COMBINE_SOURCE,
        headers=(INCLUDES,),
        arguments=(PARTIAL, result),
        grid=(groups * passes,),
        block=(COMBINE_THREADS,),
    )
    launches = [main] if schedule.combine == "last_block" else [main, combine]
    return cuda_program(workload, launches, workspaces=[workspace])


COMBINE_SOURCE = """__device__ __forceinline__ void decode_combine(const float* partial, elem* y) {
  attention_decode_combine(partial, y);
}
"""


def _main_source(extras: list[str], *, partial: bool) -> str:
    """A function with the parameters that exist around the one that takes all."""
    types = {"mask": "const mask_t*", "lengths": "const length_t*"}
    parameters = [f"const elem* {role}" for role in ("query", "key", "value")]
    parameters += [f"{types[role]} {role}" for role in extras]
    parameters += ["elem* y", *(["float* partial"] if partial else []), "unsigned char* arena"]
    given = ["query", "key", "value"]
    given += [role if role in extras else "nullptr" for role in types]
    given += ["y", "partial" if partial else "nullptr", "arena"]
    return (
        f"__device__ __forceinline__ void decode_main({', '.join(parameters)}) {{\n"
        f"  attention_decode({', '.join(given)});\n}}\n"
    )


def constants(problem: DecodeProblem, schedule: DecodeSchedule) -> str:
    """What ``attention_decode.cuh`` wants defined before it."""
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
    lines += [f"typedef {C_TYPES[dtype]} {name};" for name, dtype in types.items()]
    return "\n".join([*lines, ""])


def _sizes(problem: DecodeProblem, schedule: DecodeSchedule) -> list[tuple[str, int]]:
    plain = problem.plain
    mask = {None: 0, "bool": 1}.get(None if problem.mask is None else problem.mask.dtype, 2)
    strides = zip(("BATCH", "HEAD", "QUERY", "KEY"), problem.mask_strides, strict=True)
    return [
        ("WARPS", schedule.warps),
        ("SUBS", schedule.tiles),
        ("DEPTH", schedule.in_flight),
        ("KEY_ROWS", schedule.key_rows),
        ("PASS_ROWS", schedule.rows),
        ("SPLITS", schedule.splits),
        ("COMBINE_THREADS", COMBINE_THREADS),
        ("GROUPS", problem.groups),
        ("KV_HEADS", plain.kv_heads),
        ("GROUP_ROWS", problem.group_rows),
        ("QUERIES", plain.queries),
        ("KEYS", plain.keys),
        ("WIDTH", plain.width),
        ("VALUE_WIDTH", plain.value_width),
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
        ("IN_SHARED", schedule.in_shared),
        ("IN_TURNS", schedule.in_turns),
        ("COMBINES_LAST", schedule.combine == "last_block" and schedule.splits > 1),
        ("IN_CLUSTER", schedule.combine == "cluster"),
        ("HAS_LEFT", plain.left is not None),
        ("HAS_RIGHT", plain.right is not None),
        ("HAS_LENGTHS", problem.lengths is not None),
        ("AT_END", problem.at_end),
        ("HAS_SOFTCAP", bool(problem.softcap)),
    ]


def _factors(problem: DecodeProblem) -> list[tuple[str, float]]:
    """Scores leave the products times SCALE, and are powers of two times UNIT.

    A mask and a soft cap apply to scores as they are; without them one factor does for both.
    """
    apart = problem.mask is not None or bool(problem.softcap)
    scale = problem.plain.scale
    return [
        ("SCALE", scale if apart else scale * log2(e)),
        ("UNIT", log2(e) if apart else 1.0),
        ("SOFTCAP", problem.softcap or 1.0),
    ]
