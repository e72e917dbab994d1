"""Products of many rows with quantised matrices: unpacked once per launch, then multiplied.

The first launch writes the matrix as 16-bit floats, the second is one of a matrix-product family's
(``matmul`` on Hopper, else ``matmul_mma``). Packed weights are the same as those of few rows
(``schedules/gemv_dequant.py``), so entry points that read a prompt and those that continue it share
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from schedules import matmul_cuda, matmul_mma_cuda
from schedules.contraction import HALF, Contraction, Operand, Side
from schedules.cuda_kernel import CudaLaunch, cuda_program, device_code
from schedules.errors import UnknownSpace
from schedules.gemv_dequant_problem import GemvProblem, gemv_problem
from schedules.knobs import KnobSpace, Value, Values
from schedules.matmul import MatmulSpace, takes
from schedules.matmul_mma import MatmulMmaSpace
from schedules.matmul_simt import has_async_copies
from schedules.packing import TILE_COLUMNS
from schedules.product_ending import CUDA_TYPES, partial_sums
from schedules.task import Task
from schedules.workload import TensorSpec

# Fewer are a matter of memory: their kernels read every code once.
LEAST_ROWS = 17
MATRIX = "dequantised"
WARPS = 8
TEXT_PARTS = ("packed_codes.cuh", "gemm_unpack.cuh")
INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
ProductFamily = tuple[MatmulSpace | MatmulMmaSpace, Callable[[Contraction, Any], list[CudaLaunch]]]
ACTIVATIONS = {
    "": "{0}",
    "silu": "{0} / (1.0f + expf(-{0}))",
    "gelu": "0.5f * {0} * (1.0f + erff({0} * 0.70710678118654752f))",
    "gelu_tanh": "{0} / (1.0f + expf(-1.5957691216057308f * ({0} + 0.044715f * {0} * {0} * {0})))",
    "relu": "{0} > 0.0f || {0} != {0} ? {0} : 0.0f",
}


def gemm_dequant_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    problem = gemv_problem(task.workload)
    if problem is None or not _covers(problem) or _family_of(task, problem) is None:
        return None
    return GemmDequantSpace(task)


def _covers(problem: GemvProblem) -> bool:
    plain = len(problem.outputs) == 1 and not problem.gated and not problem.is_int8
    # Unpacked eight codes at a time.
    whole = problem.depth % 8 == 0
    return plain and whole and problem.dtype in HALF and problem.rows >= LEAST_ROWS


def _family_of(task: Task, problem: GemvProblem) -> ProductFamily | None:
    """The space and the launches of the second part."""
    contraction = contraction_behind(problem)
    if task.target.kind == "cuda" and task.target.arch == "sm_90" and takes(contraction):
        hopper = MatmulSpace(task, contraction)
        return None if hopper.is_empty else (hopper, matmul_cuda.launches)
    if has_async_copies(task.target):
        warps = MatmulMmaSpace(task, contraction)
        return None if warps.is_empty else (warps, matmul_mma_cuda.launches)
    return None


class GemmDequantSpace(KnobSpace):
    """A matrix-product family's points, behind a launch that unpacks."""

    name = "gemm_dequant"

    def __init__(self, task: Task) -> None:
        quantised = gemv_problem(task.workload)
        family = None if quantised is None else _family_of(task, quantised)
        if quantised is None or family is None:
            raise UnknownSpace(
                f"the gemm_dequant family does not cover {task.workload.name}: expected one "
                "packed matrix, and x, scales and output of one 16-bit float type."
            )
        self._quantised = quantised
        self._workload = task.workload
        self._product, self._launches = family
        self.knobs = self._product.knobs

    def _legal(self) -> Iterator[dict[str, Value]]:
        yield from self._product.points

    def refusal(self, values: Values) -> str | None:
        """As the matrix-product family's."""
        return self._product.refusal(values)

    def numbers(self, values: Values) -> list[float]:
        """As the matrix-product family's."""
        return self._product.numbers(values)

    def program(self, values: Values) -> Any:
        """The bound program of two launches, or three if the sums are split."""
        schedule = self._product.schedule(values)
        contraction = contraction_behind(self._quantised)
        workspaces = [matrix_of(self._quantised), *partial_sums(contraction, schedule.splits)]
        both = [unpack_launch(self._quantised), *self._launches(contraction, schedule)]
        return cuda_program(self._workload, both, workspaces=workspaces)


def matrix_of(problem: GemvProblem) -> TensorSpec:
    """What the first launch writes."""
    shape = (problem.n_tiles * TILE_COLUMNS, problem.depth)
    return TensorSpec(name=MATRIX, shape=shape, dtype=problem.dtype)


def contraction_behind(problem: GemvProblem) -> Contraction:
    """The product of ``x`` with the unpacked matrix, and what follows it."""
    columns, dtype, depth = problem.columns[0], problem.dtype, problem.depth
    reads, sums = [], ["sum"]
    if problem.has_bias:
        reads.append(Side(buffer=problem.inputs["bias"], dtype=dtype, batch=0, m=0, n=1))
        sums.append(f"x{len(reads) - 1}")
    result = ACTIVATIONS[problem.activation].format("t0")
    if problem.has_residual:
        reads.append(Side(buffer=problem.inputs["residual"], dtype=dtype, batch=0, m=columns, n=1))
        result = f"({result}) + x{len(reads) - 1}"
    return Contraction(
        batch=1,
        m=problem.rows,
        n=columns,
        k=depth,
        dtype=dtype,
        a=Operand(buffer=problem.inputs["x"], batch=0, row=depth, depth=1),
        b=Operand(buffer=MATRIX, batch=0, row=depth, depth=1),
        out=Side(buffer=problem.outputs[0], dtype=dtype, batch=0, m=columns, n=1),
        reads=tuple(reads),
        lines=(f"const float t0 = {' + '.join(sums)};",),
        result=result,
    )


def unpack_launch(problem: GemvProblem) -> CudaLaunch:
    """Codes into 16-bit floats."""
    sizes = {
        "BITS": problem.bits,
        "UNIT_K": problem.unit_depth,
        "LOADS": problem.n_loads,
        "GROUP_K": problem.group,
        "N_TILES": problem.n_tiles,
        "N_UNITS": problem.n_units,
        "N_GROUPS": problem.n_groups,
        "K": problem.depth,
        "HAS_ZEROS": int(problem.has_zeros),
        "WARPS": WARPS,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in sizes.items()]
    lines.append(f"typedef {CUDA_TYPES[problem.dtype]} elem;")
    zeros = "const unsigned char* zeros, " if problem.has_zeros else ""
    given = "zeros" if problem.has_zeros else "nullptr"
    wrapper = (
        "__device__ __forceinline__ void unpack(const unsigned* codes, const elem* scales, "
        f"{zeros}elem* matrix) {{\n  gemm_unpack(codes, scales, {given}, matrix);\n}}\n"
    )
    roles = [role for role in ("codes", "scales", "zeros") if role in problem.inputs]
    return CudaLaunch(
        function="unpack",
        source="\n".join([*lines, *map(device_code, TEXT_PARTS), wrapper]),
        headers=(INCLUDES,),
        arguments=(*(problem.inputs[role] for role in roles), MATRIX),
        grid=(-(-problem.n_tiles * problem.n_units // WARPS),),
        block=(32 * WARPS,),
    )
