"""CUDA programs without sums: every thread computes vectors of neighbouring elements."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code, early_headers, early_start
from schedules.elementwise_lanes import LAST, Lanes
from schedules.elementwise_problem import ElementwiseProblem
from schedules.elementwise_words import Word
from schedules.row_space import C_TYPES, constants
from schedules.workload import TensorSpec, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseSchedule:
    """Decisions of one program.

    Attributes:
        vector: Neighbours that a thread computes at once.
        threads: Of a block.
        each: Vectors per thread, all read before the first is computed.
        streams: Whether what is read and written once tells the cache that it does not come back.
        early: Whether blocks are there before the kernel in front has ended, and wait for it.
    """

    vector: int
    threads: int
    each: int
    streams: bool
    early: bool = False


def n_vectors(problem: ElementwiseProblem, schedule: ElementwiseSchedule) -> int:
    """Vectors of the output."""
    return problem.n_elements // schedule.vector


def n_blocks(problem: ElementwiseProblem, schedule: ElementwiseSchedule) -> int:
    """Blocks of the launch."""
    return -(-n_vectors(problem, schedule) // (schedule.threads * schedule.each))


def elementwise_cuda(
    workload: Workload, problem: ElementwiseProblem, lanes: Lanes, schedule: ElementwiseSchedule
) -> Any:
    """The bound program of a schedule; see :func:`elementwise_launch`."""
    return cuda_program(workload, [elementwise_launch(problem, lanes, schedule)])


def elementwise_launch(
    problem: ElementwiseProblem, lanes: Lanes, schedule: ElementwiseSchedule
) -> CudaLaunch:
    """The one launch of a program.

    Args:
        problem: What to compute.
        lanes: Its texts for the schedule's vector.
        schedule: Decisions.
    """
    return CudaLaunch(
        function="elementwise",
        source=_source(problem, lanes, schedule),
        headers=early_headers(schedule.early, device_code("rows.cuh")),
        arguments=problem.names,
        grid=(n_blocks(problem, schedule),),
        block=(schedule.threads,),
        early=schedule.early,
    )


def _source(problem: ElementwiseProblem, lanes: Lanes, schedule: ElementwiseSchedule) -> str:
    words = list(enumerate(lanes.words))
    out = f"Chunk<{C_TYPES[problem.dtype]}, {schedule.vector}>"
    streams = str(schedule.streams).lower()
    return "\n".join(
        [
            *constants(
                {
                    "EACH": schedule.each,
                    "THREADS": schedule.threads,
                    "VECTORS": n_vectors(problem, schedule),
                }
            ),
            _head(problem),
            early_start(schedule.early),
            "  using namespace effcompile_rows;",
            *(f"  {_chunk(problem, word)} w{i}[EACH];" for i, word in words),
            "#pragma unroll",
            "  for (int e = 0; e < EACH; ++e) {",
            *_position(problem, schedule),
            *(f"    {_load(problem, i, word, schedule)}" for i, word in words),
            "  }",
            "#pragma unroll",
            "  for (int e = 0; e < EACH; ++e) {",
            *_position(problem, schedule),
            *(f"    float r{i}[{word.width}];\n    w{i}[e].widen(r{i});" for i, word in words),
            f"    const float done[] = {{{', '.join(lanes.texts)}}};",
            f"    {out} made;",
            "    made.fill(done);",
            f"    if (number < VECTORS) made.store<{streams}>(y + place * {schedule.vector});",
            "  }",
            "}",
        ]
    )


def _head(problem: ElementwiseProblem) -> str:
    """Name and parameters; what int64 and bool are called is left to the compiler."""
    indices = [i for i, one in enumerate(problem.inputs) if one.dtype not in C_TYPES]
    head = f"template <{', '.join(f'typename T{i}' for i in indices)}>\n" if indices else ""
    kinds = [C_TYPES.get(one.dtype, f"T{i}") for i, one in enumerate(problem.inputs)]
    parameters = [f"const {kind}* __restrict__ p{i}" for i, kind in enumerate(kinds)]
    parameters.append(f"{C_TYPES[problem.dtype]}* __restrict__ y")
    return f"{head}__device__ __forceinline__ void elementwise({', '.join(parameters)}) {{"


def _position(problem: ElementwiseProblem, schedule: ElementwiseSchedule) -> list[str]:
    """The vector's number, its place (the last one's behind the end), and the axes there."""
    lines = [
        "    const int number = (blockIdx.x * EACH + e) * THREADS + threadIdx.x;",
        "    const int place = number < VECTORS ? number : VECTORS - 1;",
    ]
    sizes = [*problem.shape[:-1], problem.shape[-1] // schedule.vector]
    names = [*(str(axis.name) for axis in problem.axes[:-1]), LAST]
    step = 1
    for name, size in zip(reversed(names), reversed(sizes), strict=True):
        if size > 1:
            lines.append(f"    const int {name} = place / {step} % {size};")
        step *= size
    return lines


def _load(problem: ElementwiseProblem, i: int, word: Word, schedule: ElementwiseSchedule) -> str:
    streams = schedule.streams and _is_read_once(problem, problem.inputs[word.buffer])
    start = f"p{word.buffer} + ({word.position})"
    return f"w{i}[e].load<{str(streams).lower()}>({word.guard}, {start});"


def _is_read_once(problem: ElementwiseProblem, one: TensorSpec) -> bool:
    """Whether an input is about as large as the output; a smaller one is read again and again."""
    return 2 * prod(one.shape) >= problem.n_elements


def _chunk(problem: ElementwiseProblem, word: Word) -> str:
    kind = C_TYPES.get(problem.inputs[word.buffer].dtype, f"T{word.buffer}")
    return f"Chunk<{kind}, {word.width}>"
