"""CUDA programs of the integer softmax: ``cuda/integer_softmax.cuh`` with its constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.integer_exponential import POWER_OF_TWO, IntegerExponential
from schedules.integer_softmax_problem import CODES, DEFERRED, SHARES, IntegerSoftmaxProblem
from schedules.row_space import constants
from schedules.workload import Workload

OUTPUTS = (CODES, SHARES, DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerSoftmaxSchedule:
    """Decisions of one program.

    Attributes:
        vector: Elements moved at once.
        lanes: Threads of a row, a power of two.
        height: Rows of a block.
        kept: Whether a row waits in registers for its maximum and sum, or is read three times.
        looks_up: Whether exponentials come from a table of all codes.
        row_table: Whether the shares of all codes are computed once per row and looked up.
    """

    vector: int
    lanes: int
    height: int
    kept: bool
    looks_up: bool
    row_table: bool


def n_chunks(problem: IntegerSoftmaxProblem, schedule: IntegerSoftmaxSchedule) -> int:
    """Vectors of a row per thread."""
    return -(-problem.n // (schedule.lanes * schedule.vector))


def integer_softmax_cuda(
    workload: Workload, problem: IntegerSoftmaxProblem, schedule: IntegerSoftmaxSchedule
) -> Any:
    """The bound program of a schedule."""
    deferred = problem.widths.output == DEFERRED
    # What int64 is called differs from compiler to compiler.
    sums = "reinterpret_cast<long long*>(sums)" if deferred else "nullptr"
    head = "template <typename Int64> " if deferred else ""
    result = f"{CUDA_TYPES[problem.result_dtype]}* y{', Int64* sums' if deferred else ''}"
    launch = CudaLaunch(
        function="integer_softmax_rows",
        source="\n".join(
            [
                _constants(problem, schedule),
                device_code("integer_softmax.cuh"),
                f"{head}__device__ __forceinline__ void integer_softmax_rows("
                f"const {CUDA_TYPES[problem.dtype]}* x, {result}) {{",
                f"  integer_softmax(x, y, {sums});\n}}",
            ]
        ),
        headers=(device_code("rows.cuh"),),
        arguments=problem.names,
        grid=(-(-problem.n_rows // schedule.height),),
        block=(schedule.lanes, schedule.height),
    )
    return cuda_program(workload, [launch])


def is_narrow(problem: IntegerSoftmaxProblem) -> bool:
    """Whether shifted exponentials, partial sums of a thread and sums fit 32 bits."""
    largest = int(problem.exponential.values[0])
    widths = problem.widths
    return widths.sum_bits < 32 and largest << widths.output_bits < 1 << 32


def _constants(problem: IntegerSoftmaxProblem, schedule: IntegerSoftmaxSchedule) -> str:
    exponential, widths = problem.exponential, problem.widths
    table = _table(exponential, looks_up=schedule.looks_up)
    values = {
        "N": problem.n,
        "VECTOR": schedule.vector,
        "LANES": schedule.lanes,
        "HEIGHT": schedule.height,
        "CHUNKS": n_chunks(problem, schedule),
        "SCORE_BITS": exponential.score_bits,
        "OCTAVE": exponential.octave,
        "SHIFT": exponential.shift,
        "OFFSET": exponential.offset,
        "BARRETT": exponential.barrett,
        "GUARD_BITS": exponential.guard_bits,
        "OUTPUT_BITS": widths.output_bits,
        "TABLE_LENGTH": len(table),
        "OUTPUT": OUTPUTS.index(widths.output),
        "DEFERRED": OUTPUTS.index(DEFERRED),
        "ROWS": problem.n_rows,
        "KEPT": schedule.kept,
        "LOOKUP": schedule.looks_up,
        "ROW_TABLE": schedule.row_table,
        "POWER_OF_TWO": exponential.form == POWER_OF_TWO,
        "CLIPS_TO_ZERO": exponential.clips_to_zero,
        "NARROW": is_narrow(problem),
    }
    lines = [
        f"typedef {CUDA_TYPES[problem.dtype]} score_t;",
        f"typedef {CUDA_TYPES[problem.result_dtype]} result_t;",
        f"constexpr unsigned long long LARGEST_SUM = {(1 << widths.sum_bits) - 1}ull;",
        f"constexpr float LIMIT = (float){exponential.limit!r};",
        f"constexpr float PER_NAT = (float){1 / exponential.step!r};",
        *constants(values),
        f"__constant__ int TABLE[{len(table)}] = {{{', '.join(map(str, table))}}};",
    ]
    return "\n".join(lines)


def _table(exponential: IntegerExponential, *, looks_up: bool) -> tuple[int, ...]:
    """What the program looks up; one entry that nobody reads where it computes everything."""
    if looks_up:
        return tuple(int(value) for value in exponential.values)
    return exponential.fractions if exponential.form == POWER_OF_TWO else (0,)
