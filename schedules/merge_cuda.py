"""CUDA programs of the merge family: templates of ``cuda/merge_*.cuh``, everything filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.merge_problem import (
    BLEND_ROWS,
    COMBINE_PARTIALS,
    FRAME_COSINE,
    GATHER_ROWS,
    RENOISE_ROWS,
    SEGMENT_MEAN,
    SELECT_ROWS,
    MergeProblem,
)
from schedules.row_space import C_TYPES
from schedules.workload import Workload

KINDS = {
    GATHER_ROWS: "GATHER",
    BLEND_ROWS: "BLEND",
    RENOISE_ROWS: "RENOISE",
    SELECT_ROWS: "SELECT",
}
FILES = {
    FRAME_COSINE: "merge_cosines.cuh",
    SEGMENT_MEAN: "merge_means.cuh",
    COMBINE_PARTIALS: "merge_partials.cuh",
    **dict.fromkeys(KINDS, "merge_mixtures.cuh"),
}
# Which of the arguments of ``mix_rows`` (x, other, low, high, weight) each operator has.
MIXTURE_INPUTS = {
    GATHER_ROWS: (0, 2),
    BLEND_ROWS: (0, 2, 3, 4),
    RENOISE_ROWS: (0, 1, 2, 4),
    SELECT_ROWS: (0, 1, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSchedule:
    """How the threads of a block share rows.

    Attributes:
        vector: Elements moved at once.
        lanes: Threads side by side in one row.
        height: Rows, or groups of frames, that a block works on at once.
        chunks: Vectors of one row per thread; for cosines all of a row, which follows.
        each: Rows per thread: mixed together, or walked for cosines.
        unroll: Rows loaded before the first is used.
        streams: Whether loads and stores tell the cache that nothing comes back.
    """

    vector: int
    lanes: int
    height: int
    chunks: int = 1
    each: int = 1
    unroll: int = 1
    streams: bool = False


def n_tiles(problem: MergeProblem, schedule: MergeSchedule) -> int:
    """Blocks side by side in one row."""
    return -(-(problem.width // schedule.vector) // (schedule.lanes * schedule.chunks))


def n_blocks(problem: MergeProblem, schedule: MergeSchedule) -> int:
    """Blocks of the launch."""
    if problem.op == FRAME_COSINE:
        if problem.is_listed:
            groups = -(-problem.rows // schedule.each)
        else:
            frames = -(-problem.rows // problem.places)
            groups = problem.places * -(-frames // schedule.each)
        return -(-groups // schedule.height)
    rows = -(-problem.n_results // (schedule.height * schedule.each))
    return rows * n_tiles(problem, schedule)


def merge_cuda(workload: Workload, problem: MergeProblem, schedule: MergeSchedule) -> Any:
    """The bound program of a schedule."""
    call = _CALLS[problem.op](problem, schedule)
    launch = CudaLaunch(
        function=problem.op,
        source=(
            f"__device__ __forceinline__ void {problem.op}({_parameters(workload)}) {{\n"
            f"  using namespace effcompile_merge;\n  effcompile_merge::{call};\n}}"
        ),
        headers=tuple(map(device_code, ("rows.cuh", "merge.cuh", FILES[problem.op]))),
        arguments=problem.names,
        grid=(n_blocks(problem, schedule),),
        block=(schedule.lanes, schedule.height),
    )
    return cuda_program(workload, [launch])


def _parameters(workload: Workload) -> str:
    types = {**C_TYPES, "int32": "int"}
    inputs = [f"const {types[one.dtype]}* a{i}" for i, one in enumerate(workload.inputs)]
    outputs = [f"{types[one.dtype]}* y{i}" for i, one in enumerate(workload.outputs)]
    return ", ".join([*inputs, *outputs])


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _call(function: str, template: list[Any], arguments: list[str]) -> str:
    return f"{function}<{', '.join(map(str, template))}>({', '.join(arguments)})"


def _segment_mean(problem: MergeProblem, schedule: MergeSchedule) -> str:
    template = [
        C_TYPES[problem.dtype],
        schedule.vector,
        schedule.lanes,
        schedule.height,
        schedule.chunks,
        schedule.unroll,
        _flag(schedule.streams),
        problem.outer,
        problem.rows,
        problem.listed,
        problem.groups,
        problem.width,
        problem.longest,
        _flag(problem.is_listed),
    ]
    inputs = ["a0", "a1", "a2"] if problem.is_listed else ["a0", "nullptr", "a1"]
    return _call("segment_mean", template, [*inputs, "y0"])


def _mixture(problem: MergeProblem, schedule: MergeSchedule) -> str:
    template = [
        C_TYPES[problem.dtype],
        KINDS[problem.op],
        schedule.vector,
        schedule.lanes,
        schedule.height,
        schedule.each,
        schedule.chunks,
        _flag(schedule.streams),
        problem.outer,
        problem.rows,
        problem.other,
        problem.groups,
        problem.width,
    ]
    present = MIXTURE_INPUTS[problem.op]
    inputs = [f"a{present.index(i)}" if i in present else "nullptr" for i in range(5)]
    return _call("mix_rows", template, [*inputs, "y0"])


def _frame_cosine(problem: MergeProblem, schedule: MergeSchedule) -> str:
    shape = [C_TYPES[problem.dtype], schedule.vector, schedule.lanes, schedule.height]
    streams = _flag(schedule.streams)
    if problem.is_listed:
        template = [*shape, schedule.each, streams, problem.rows, problem.width]
        return _call("pair_cosine", template, ["a0", "a1", "y0"])
    ahead = schedule.unroll - 1
    sizes = [problem.rows, problem.places, problem.width]
    return _call("frame_cosine", [*shape, schedule.each, ahead, streams, *sizes], ["a0", "y0"])


def _combine_partials(problem: MergeProblem, schedule: MergeSchedule) -> str:
    template = [
        C_TYPES[problem.dtype],
        C_TYPES[problem.result_dtype],
        schedule.vector,
        schedule.lanes,
        schedule.height,
        schedule.chunks,
        schedule.unroll,
        _flag(schedule.streams),
        problem.splits,
        problem.rows,
        problem.width,
    ]
    return _call("combine_partials", template, ["a0", "a1", "y0", "y1"])


_CALLS = {
    SEGMENT_MEAN: _segment_mean,
    FRAME_COSINE: _frame_cosine,
    COMBINE_PARTIALS: _combine_partials,
    **dict.fromkeys(KINDS, _mixture),
}
