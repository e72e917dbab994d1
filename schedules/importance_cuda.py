"""Importance of keys on CUDA devices: scores of parts of the keys, then all of them combined."""

from __future__ import annotations

from dataclasses import dataclass
from math import e, log2
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.importance_problem import ImportanceProblem
from schedules.workload import TensorSpec, Workload

SCORES, SHARES = "scores", "shares"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceSchedule:
    """Decisions of one program.

    Attributes:
        warps: Of a block of the first launch.
        tiles: Of 16 keys, of a warp.
        threads: Of a block of the second launch, one per key.
    """

    warps: int
    tiles: int
    threads: int

    @property
    def part(self) -> int:
        """Keys of a block of the first launch."""
        return 16 * self.warps * self.tiles


def importance_cuda(
    workload: Workload, problem: ImportanceProblem, schedule: ImportanceSchedule
) -> Any:
    """The bound program of a schedule."""
    query, key, result = problem.names
    n_parts = -(-problem.keys // schedule.part)
    rows = problem.batch * problem.heads
    text = _text(problem, schedule)
    element = CUDA_TYPES[problem.dtype]
    first = CudaLaunch(
        function="importance_scores",
        headers=(device_code("ampere.cuh"),),
        source=f"{text}__device__ __forceinline__ void importance_scores(const {element}* query, "
        f"const {element}* key, float* scores, float* shares) {{\n"
        "  importance::score(query, key, scores, shares);\n}",
        arguments=(query, key, SCORES, SHARES),
        grid=(n_parts, problem.batch * problem.kv_heads),
        block=(32 * schedule.warps,),
    )
    second = CudaLaunch(
        function="importance_combine",
        headers=(device_code("ampere.cuh"),),
        source=f"{text}__device__ __forceinline__ void importance_combine(const float* scores, "
        "const float* shares, float* out) {\n  importance::combine(scores, shares, out);\n}",
        arguments=(SCORES, SHARES, result),
        grid=(-(-problem.keys // schedule.threads), problem.batch),
        block=(schedule.threads,),
    )
    workspaces = [
        TensorSpec(name=SCORES, shape=(rows, problem.keys), dtype="float32"),
        TensorSpec(name=SHARES, shape=(rows, n_parts, 2), dtype="float32"),
    ]
    return cuda_program(workload, [first, second], workspaces=workspaces)


def _text(problem: ImportanceProblem, schedule: ImportanceSchedule) -> str:
    numbers = {
        "WARPS": schedule.warps,
        "TILES": schedule.tiles,
        "THREADS": schedule.threads,
        "HEADS": problem.heads,
        "KV_HEADS": problem.kv_heads,
        "QUERIES": problem.queries,
        "KEYS": problem.keys,
        "WIDTH": problem.width,
    }
    lines = [
        "namespace importance {",
        *(f"constexpr int {name} = {value};" for name, value in numbers.items()),
        f"constexpr float SCALE_LOG2 = {problem.scale * log2(e)!r}f;",
        f"typedef {CUDA_TYPES[problem.dtype]} element;",
        "}",
        device_code("last_row_importance.cuh"),
    ]
    return "\n".join([*lines, ""])
