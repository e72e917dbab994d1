"""Attention for compute capability 9.0: from knob values to a program.

The device code is ``schedules/cuda/attention_hopper.cuh``; this module writes the constants, the
matrix products and a :class:`Pattern` in front of it and describes the launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import e, log2
from typing import Any

from schedules.attention_problem import AttentionProblem
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.wgmma import wgmma_registers, wgmma_shared
from schedules.workload import Workload

ROWS_PER_WARPGROUP = 64
BLOCK_COLUMNS = 64
ALIGNMENT_BYTES = 1024
# Of each consumer: its tile, and the barriers of its queries.
CONSUMER_BYTES = 64 + 16
BARRIER_BYTES_PER_STAGE = 32
# What 65536 registers give a producer and n consumers, in steps of 8.
REGISTERS = {1: (56, 240), 2: (24, 240), 3: (32, 160)}
# With more blocks of columns, or more blocks to copy to, a producer has more addresses to hold.
REGISTERS_OF_WIDE = {1: (56, 240), 2: (40, 232), 3: (56, 152)}
WIDE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HopperSchedule:
    """Decisions of one program.

    Attributes:
        warpgroups: Consumers of 64 query rows, 1 to 3.
        key_tile: Keys of one step.
        stages: Key and value tiles in flight.
        pingpong: Whether consumers take turns at the matrix units.
        overlap: Whether a softmax runs beside the product before it.
        blocks: Blocks launched; each takes every ``blocks``-th tile.
        longest_first: Whether the tiles with most keys of all heads come first.
        splits: Blocks that share the keys of a tile; patterns that can combine them only.
        early: Whether launches of one program may start before the one in front has ended.
        cluster: Blocks that work on neighbouring tiles at once and copy keys for each other.
    """

    warpgroups: int
    key_tile: int
    stages: int
    pingpong: bool
    overlap: bool
    blocks: int
    longest_first: bool
    splits: int = 1
    early: bool = False
    cluster: int = 1

    @property
    def query_tile(self) -> int:
        """Query rows of one block."""
        return ROWS_PER_WARPGROUP * self.warpgroups

    @property
    def threads(self) -> int:
        """Of a block: the producer's warpgroup and the consumers."""
        return 128 * (1 + self.warpgroups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Which keys a query attends, as device code.

    Attributes:
        files: Of ``schedules/cuda``; define what ``attention_hopper.cuh`` says it needs.
        constants: Integers that they need.
        tables: Code in front of them, for what no integer can say.
        sources: Pointers of ``Sources``: member to buffer and element type; others are null.
        plan_bytes: Shared memory of ``Plan``.
        parts: Pieces of equal length that the keys of a step are loaded in.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
        follows: Whether another launch of the program stands in front.
    """

    files: tuple[str, ...]
    constants: Mapping[str, int]
    tables: str = ""
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    plan_bytes: int = 0
    parts: int = 1
    softcap: float = 0.0
    follows: bool = False


def window_pattern(problem: AttentionProblem, schedule: HopperSchedule) -> Pattern:
    """All keys, or those of a window around the query's position."""
    return Pattern(
        files=("attention_window.cuh", "attention_ranges.cuh"),
        constants={
            "OFFSET": problem.offset,
            "HAS_LEFT": int(problem.left is not None),
            "LEFT": problem.left or 0,
            "HAS_RIGHT": int(problem.right is not None),
            "RIGHT": problem.right or 0,
            "LONGEST_FIRST": int(schedule.longest_first),
        },
    )


def shared_bytes(
    problem: AttentionProblem, schedule: HopperSchedule, *, plan_bytes: int = 0
) -> int:
    """Dynamic shared memory of a block."""
    qk_blocks, v_blocks = _blocks(problem.width), _blocks(problem.value_part)
    row = 2 * BLOCK_COLUMNS
    stage = (qk_blocks + v_blocks) * schedule.key_tile * row + BARRIER_BYTES_PER_STAGE
    query = qk_blocks * schedule.query_tile * row
    consumers = schedule.warpgroups * CONSUMER_BYTES
    return plan_bytes + ALIGNMENT_BYTES + query + schedule.stages * stage + consumers


def registers(problem: AttentionProblem, schedule: HopperSchedule) -> tuple[int, int]:
    """Of a thread of the producer, and of a consumer."""
    is_plain = problem.width <= WIDE and schedule.cluster == 1
    known = REGISTERS if is_plain else REGISTERS_OF_WIDE
    return known[schedule.warpgroups]


def accumulators(problem: AttentionProblem, schedule: HopperSchedule) -> int:
    """Registers of a consumer thread that hold scores, probabilities and outputs.

    Probabilities take the place of their scores unless the next scores are already coming.
    """
    scores = schedule.key_tile // 2
    probabilities = scores // 2 if schedule.overlap else 0
    return scores + probabilities + problem.value_part // 2


def n_tiles(problem: AttentionProblem, schedule: HopperSchedule) -> int:
    """Query tiles of all heads, their splits and parts of their columns."""
    tiles = -(-problem.queries // schedule.query_tile) * problem.batch * problem.heads
    return tiles * schedule.splits * problem.value_parts


def attention_hopper(
    workload: Workload, problem: AttentionProblem, schedule: HopperSchedule, pattern: Pattern
) -> Any:
    """The ``PrimFunc``."""
    return cuda_program(workload, [attention_launch(problem, schedule, pattern)])


def attention_launch(
    problem: AttentionProblem, schedule: HopperSchedule, pattern: Pattern
) -> CudaLaunch:
    """The launch."""
    query, key, value, result = problem.names
    heads, kv_heads = problem.batch * problem.heads, problem.batch * problem.kv_heads
    part = schedule.key_tile // (pattern.parts * schedule.cluster)
    return CudaLaunch(
        function="attention_forward",
        headers=(device_code("hopper.cuh"), device_code("early_launch.cuh")),
        source=_source(problem, schedule, pattern),
        arguments=(
            _tiles(query, problem.width, problem.queries, heads, ROWS_PER_WARPGROUP),
            _tiles(key, problem.width, problem.keys, kv_heads, part),
            _tiles(value, problem.value_width, problem.keys, kv_heads, part),
            result,
            *(buffer for buffer, _ in pattern.sources.values()),
        ),
        grid=(schedule.blocks,),
        block=(schedule.threads,),
        shared_bytes=shared_bytes(problem, schedule, plan_bytes=pattern.plan_bytes),
        # Makes the compiler claim all registers a block can have. A launch with fewer would leave
        # consumers waiting for ever for what producers cannot give.
        min_blocks=1,
        early=schedule.early and pattern.follows,
        cluster=schedule.cluster,
    )


def _tiles(name: str, width: int, tokens: int, heads: int, rows: int) -> TensorMap:
    return TensorMap(
        buffer=name,
        shape=(width, tokens, heads),
        strides_bytes=(2 * width, 2 * width * tokens),
        box=(BLOCK_COLUMNS, rows, 1),
    )


def _blocks(width: int) -> int:
    return -(-width // BLOCK_COLUMNS)


def _source(problem: AttentionProblem, schedule: HopperSchedule, pattern: Pattern) -> str:
    producer, consumer = registers(problem, schedule)
    dtype, key_tile = problem.dtype, schedule.key_tile
    constants = {
        "BM": schedule.query_tile,
        "BN": key_tile,
        "WIDTH": problem.width,
        "VALUE_WIDTH": problem.value_part,
        "VALUE_PARTS": problem.value_parts,
        "STAGES": schedule.stages,
        "WARPGROUPS": schedule.warpgroups,
        "CLUSTER": schedule.cluster,
        "QUERIES": problem.queries,
        "KEYS": problem.keys,
        "HEADS": problem.heads,
        "KV_HEADS": problem.kv_heads,
        "BATCH_HEADS": problem.batch * problem.heads,
        "PINGPONG": int(schedule.pingpong),
        "OVERLAP": int(schedule.overlap),
        "BFLOAT": int(dtype == "bfloat16"),
        "SOFTCAP": int(bool(pattern.softcap)),
        "PRODUCER_REGISTERS": producer,
        "CONSUMER_REGISTERS": consumer,
        "PLAN_BYTES": pattern.plan_bytes,
        "EARLY": int(schedule.early),
        "ADDITIVE": 0,
        **pattern.constants,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in constants.items()]
    cap = pattern.softcap
    factors = {
        "SCALE_LOG2": problem.scale * log2(e),
        # tanh(x) = 1 - 2 / (exp2(x * 2 log2(e)) + 1), on scores before their scale.
        "SOFTCAP_LOG2": 2 * problem.scale / cap * log2(e) if cap else 0.0,
        "CAP": cap / problem.scale,
    }
    return "\n".join(
        [
            wgmma_shared("multiply_qk", n=key_tile, dtype=dtype),
            wgmma_registers("multiply_pv", n=problem.value_part, dtype=dtype, transposed=True),
            "namespace attention {",
            *lines,
            *(f"constexpr float {name} = {value!r}f;" for name, value in factors.items()),
            f"typedef {CUDA_TYPES[dtype]} element;",
            pattern.tables,
            "}",
            *(device_code(file) for file in pattern.files),
            device_code("attention_copies.cuh"),
            device_code("attention_hopper.cuh"),
            _entry(pattern),
        ]
    )


def _entry(pattern: Pattern) -> str:
    """The launched function: pointers of the pattern become its ``Sources``."""
    types = pattern.sources.items()
    parameters = "".join(f", {element}* {member}" for member, (_, element) in types)
    given = " ".join(f"sources.{member} = {member};" for member in pattern.sources)
    return f"""
__device__ __forceinline__ void attention_forward(
    const CUtensorMap& q_map, const CUtensorMap& k_map, const CUtensorMap& v_map,
    attention::element* __restrict__ to{parameters}, unsigned char* raw) {{
  attention::Sources sources{{}};
  {given}
  attention::forward(q_map, k_map, v_map, to, sources, raw);
}}
"""
