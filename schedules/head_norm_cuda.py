"""CUDA programs of norms with an elementwise ending: ``cuda/head_norm.cuh`` and generated text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code, early_headers, early_start
from schedules.elementwise_lanes import LAST, Lanes
from schedules.elementwise_words import Word
from schedules.head_norm_problem import ROW, HeadNormProblem
from schedules.row_space import C_TYPES, constants
from schedules.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadNormSchedule:
    """Decisions of one program.

    Attributes:
        vector: Elements moved and computed at once.
        lanes: Threads of a row.
        height: Rows of a block.
        inner: Axis of the output along which neighbouring rows of a block lie.
        streams: Whether rows tell the cache that they do not come back.
        early: Whether blocks are there before the kernel in front has ended, and wait for it.
    """

    vector: int
    lanes: int
    height: int
    inner: int
    streams: bool
    early: bool = False


def head_norm_cuda(
    workload: Workload, problem: HeadNormProblem, lanes: Lanes, schedule: HeadNormSchedule
) -> Any:
    """The bound program of a schedule; see :func:`head_norm_launch`."""
    return cuda_program(workload, [head_norm_launch(problem, lanes, schedule)])


def head_norm_launch(
    problem: HeadNormProblem, lanes: Lanes, schedule: HeadNormSchedule
) -> CudaLaunch:
    """The one launch of a program.

    Args:
        problem: What to compute.
        lanes: The ending's texts for the schedule's vector.
        schedule: Decisions.
    """
    return CudaLaunch(
        function="head_norm_rows",
        source=_source(problem, lanes, schedule),
        headers=early_headers(schedule.early, device_code("rows.cuh")),
        arguments=problem.names,
        grid=(-(-problem.n_rows // schedule.height),),
        block=(schedule.lanes, schedule.height),
        early=schedule.early,
    )


def _source(problem: HeadNormProblem, lanes: Lanes, schedule: HeadNormSchedule) -> str:
    return "\n".join(
        [
            f"typedef {C_TYPES[problem.dtype]} elem;",
            f"typedef {C_TYPES[problem.weight_dtype]} weight_t;",
            f"constexpr float EPSILON = (float){problem.epsilon!r};",
            *constants(_constants(problem, schedule)),
            device_code("normal_rows.cuh"),
            device_code("head_norm.cuh"),
            _head(problem),
            early_start(schedule.early),
            *_position(problem, schedule),
            *_choice(problem),
            *_body(problem, lanes),
            "}",
        ]
    )


def _constants(problem: HeadNormProblem, schedule: HeadNormSchedule) -> dict[str, int | bool]:
    return {
        "WIDTH": problem.width,
        "VECTOR": schedule.vector,
        "LANES": schedule.lanes,
        "HEIGHT": schedule.height,
        "ROWS": problem.n_rows,
        "CENTRED": problem.centred,
        "HAS_BIAS": _has_bias(problem),
        "STREAMS": schedule.streams,
    }


def _has_bias(problem: HeadNormProblem) -> bool:
    return len(problem.sources[0].vectors) > 1


def _head(problem: HeadNormProblem) -> str:
    """The function's name and parameters; what int64 is called is left to the compiler."""
    dtypes = [one.dtype for one in problem.ending.inputs if one.name != ROW]
    indices = [i for i, dtype in enumerate(dtypes) if dtype not in C_TYPES]
    head = f"template <{', '.join(f'typename T{i}' for i in indices)}>\n" if indices else ""
    kinds = [C_TYPES.get(dtype, f"T{i}") for i, dtype in enumerate(dtypes)]
    parameters = [f"const {kind}* __restrict__ p{i}" for i, kind in enumerate(kinds)]
    parameters.append(f"{C_TYPES[problem.ending.dtype]}* __restrict__ y")
    return f"{head}__device__ __forceinline__ void head_norm_rows({', '.join(parameters)}) {{"


def _position(problem: HeadNormProblem, schedule: HeadNormSchedule) -> list[str]:
    """The row's place in the order of blocks, its axes, and its place in the output."""
    shape = problem.ending.shape[:-1]
    order = [i for i in range(len(shape)) if i != schedule.inner] + [schedule.inner]
    lines = [
        "  const int number = blockIdx.x * HEIGHT + threadIdx.y;",
        "  const bool exists = number < ROWS;",
        "  const int place = exists ? number : ROWS - 1;",
    ]
    step = 1
    for axis in reversed(order):
        lines.append(f"  const int {_name(problem, axis)} = place / {step} % {shape[axis]};")
        step *= shape[axis]
    flat = "0"
    for axis, extent in enumerate(shape):
        flat = f"({flat} * {extent} + {_name(problem, axis)})"
    return [*lines, f"  const int row_place = {flat};"]


def _name(problem: HeadNormProblem, axis: int) -> str:
    return str(problem.ending.axes[axis].name)


def _choice(problem: HeadNormProblem) -> list[str]:
    """The source of a row: the address of its first element, and its vectors.

    Rows without a source are zeros, on which the vectors of any may be used.
    """
    first, *_ = problem.sources
    names = ("weight", "bias")[: len(first.vectors)]
    lines = ["  const elem* x = nullptr;"]
    lines += [f"  const weight_t* {n} = p{i};" for n, i in zip(names, first.vectors, strict=True)]
    for one in problem.sources:
        given = " ".join(f"{n} = p{i};" for n, i in zip(names, one.vectors, strict=True))
        lines.append(f"  if ({one.guard}) {{ x = {one.start}; {given} }}")
    return lines


def _body(problem: HeadNormProblem, lanes: Lanes) -> list[str]:
    """What the ending needs of memory is on its way while the row is normalised."""
    words = [(i, word, _kind(problem, word)) for i, word in enumerate(lanes.words)]
    of_memory = [one for one in words if not _is_row(problem, one[1])]
    of_row = [one for one in words if _is_row(problem, one[1])]
    number = f"const int {LAST} = c * LANES + threadIdx.x;"
    return [
        "  Chunk<elem, VECTOR> held[CHUNKS];",
        "  fetch(held, x, exists && x != nullptr);",
        *(f"  Chunk<{kind}, {word.width}> w{i}[CHUNKS];" for i, word, kind in of_memory),
        "#pragma unroll",
        "  for (int c = 0; c < CHUNKS; ++c) {",
        f"    {number}",
        f"    const bool inside = exists && {LAST} < PER_ROW;",
        *(f"    {_load(i, word)}" for i, word, _ in of_memory),
        "  }",
        "  __shared__ __align__(16) elem rows[HEIGHT * WIDTH];",
        "  elem* row = rows + threadIdx.y * WIDTH;",
        f"  normalise(held, weight, {'bias' if _has_bias(problem) else 'nullptr'}, row);",
        "#pragma unroll",
        "  for (int c = 0; c < CHUNKS; ++c) {",
        f"    {number}",
        f"    if (!exists || {LAST} >= PER_ROW) continue;",
        *(f"    float r{i}[{word.width}];\n    w{i}[c].widen(r{i});" for i, word, _ in of_memory),
        *(
            f"    float r{i}[{word.width}];\n"
            f"    read_row(r{i}, row + ({word.position}), {word.guard});"
            for i, word, _ in of_row
        ),
        f"    const float done[] = {{{', '.join(lanes.texts)}}};",
        f"    Chunk<{C_TYPES[problem.ending.dtype]}, VECTOR> made;",
        "    made.fill(done);",
        f"    made.template store<STREAMS>(y + row_place * WIDTH + {LAST} * VECTOR);",
        "  }",
    ]


def _kind(problem: HeadNormProblem, word: Word) -> str:
    return C_TYPES[problem.ending.inputs[word.buffer].dtype]


def _is_row(problem: HeadNormProblem, word: Word) -> bool:
    return problem.ending.inputs[word.buffer].name == ROW


def _load(number: int, word: Word) -> str:
    return (
        f"w{number}[c].template load<false>(inside && ({word.guard}), "
        f"p{word.buffer} + ({word.position}));"
    )
