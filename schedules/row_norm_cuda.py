"""CUDA programs of row norms: ``cuda/row_norm.cuh`` with its constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code, early_headers, early_start
from schedules.row_norm_problem import RowNormProblem
from schedules.row_space import C_TYPES, constants
from schedules.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RowNormSchedule:
    """Decisions of one program.

    Attributes:
        vector: Elements moved at once.
        lanes: Threads of a row.
        height: Rows of a block.
        streams: Whether loads and stores tell the cache that nothing comes back.
        early: Whether blocks are there before the kernel in front has ended, and wait for it.
    """

    vector: int
    lanes: int
    height: int
    streams: bool
    early: bool = False


def row_norm_cuda(workload: Workload, problem: RowNormProblem, schedule: RowNormSchedule) -> Any:
    """The bound program of a schedule."""
    parameters, arguments = _arguments(problem)
    launch = CudaLaunch(
        function="row_norm_rows",
        source="\n".join(
            [
                _constants(problem, schedule),
                device_code("normal_rows.cuh"),
                device_code("row_norm.cuh"),
                f"__device__ __forceinline__ void row_norm_rows({', '.join(parameters)}) {{",
                early_start(schedule.early),
                f"  row_norm({', '.join(arguments)});\n}}",
            ]
        ),
        headers=early_headers(schedule.early, device_code("rows.cuh")),
        arguments=problem.names,
        grid=(-(-problem.n_rows // schedule.height),),
        block=(schedule.lanes, schedule.height),
        early=schedule.early,
    )
    return cuda_program(workload, [launch])


def _arguments(problem: RowNormProblem) -> tuple[list[str], list[str]]:
    """Parameters of the launch, in the workload's order, and those of ``row_norm``."""
    present = {
        "x": "const elem*",
        **({"residual": "const elem*"} if problem.residual_rows else {}),
        "weight": "const weight_t*",
        **({"bias": "const weight_t*"} if problem.has_bias else {}),
        **({"scale": "const elem*", "shift": "const elem*"} if problem.groups else {}),
        "y": "elem*",
        **({"total": "elem*"} if problem.keeps_sum else {}),
    }
    parameters = [f"{kind} {name}" for name, kind in present.items()]
    wanted = ("x", "residual", "weight", "bias", "scale", "shift", "y", "total")
    return parameters, [name if name in present else "nullptr" for name in wanted]


def _constants(problem: RowNormProblem, schedule: RowNormSchedule) -> str:
    values = {
        "WIDTH": problem.width,
        "VECTOR": schedule.vector,
        "LANES": schedule.lanes,
        "HEIGHT": schedule.height,
        "ROWS": problem.n_rows,
        "ROWS_PER_GROUP": problem.n_rows // max(1, problem.groups),
        "RESIDUAL_ROWS": max(1, problem.residual_rows),
        "CENTRED": problem.centred,
        "HAS_BIAS": problem.has_bias,
        "MODULATED": problem.groups > 0,
        "HAS_RESIDUAL": problem.residual_rows > 0,
        "KEEPS_SUM": problem.keeps_sum,
        "STREAMS": schedule.streams,
    }
    lines = [
        f"typedef {C_TYPES[problem.dtype]} elem;",
        f"typedef {C_TYPES[problem.weight_dtype]} weight_t;",
        f"constexpr float EPSILON = (float){problem.epsilon!r};",
    ]
    return "\n".join([*lines, *constants(values)])
