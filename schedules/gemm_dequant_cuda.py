"""Packed matrices unpacked in one launch, and the products that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from schedules.contraction import Contraction, Operand, Side
from schedules.cuda_kernel import CudaLaunch, device_code
from schedules.dtypes import CUDA_TYPES
from schedules.gemv_dequant_cuda import POINTERS
from schedules.gemv_dequant_problem import GATED_COLUMNS, GemvProblem
from schedules.packing import TILE_COLUMNS
from schedules.workload import TensorSpec

UP = "up_product"
WARPS = 8
TEXT_PARTS = ("packed_codes.cuh", "gemm_unpack.cuh")
INCLUDES = "#include <cuda_bf16.h>\n#include <cuda_fp16.h>\n"
ACTIVATIONS = {
    "": "{0}",
    "silu": "{0} / (1.0f + expf(-{0}))",
    "gelu": "0.5f * {0} * (1.0f + erff({0} * 0.70710678118654752f))",
    "gelu_tanh": "{0} / (1.0f + expf(-1.5957691216057308f * ({0} + 0.044715f * {0} * {0} * {0})))",
    "relu": "{0} > 0.0f || {0} != {0} ? {0} : 0.0f",
}


def matrices_of(problem: GemvProblem) -> list[TensorSpec]:
    """What the first launch writes: a matrix per output, or the gate and the other one."""
    edges = pairwise(problem.first_tiles)
    rows = [(end - first) * TILE_COLUMNS for first, end in edges]
    if problem.gated:
        rows = [problem.n_tiles * GATED_COLUMNS] * 2
    return [
        TensorSpec(name=f"matrix{i}", shape=(n, problem.depth), dtype=problem.dtype)
        for i, n in enumerate(rows)
    ]


def up_of(problem: GemvProblem) -> TensorSpec:
    """The product that the gate multiplies."""
    shape = (problem.rows, problem.columns[0])
    return TensorSpec(name=UP, shape=shape, dtype=problem.dtype)


def contractions_of(problem: GemvProblem) -> list[Contraction]:
    """The products of ``x`` with unpacked matrices in their order, and what follows each."""
    if problem.gated:
        columns = problem.columns[0]
        side = _like_output(problem, UP, columns)
        up = _contraction(problem, "matrix1", side, reads=[], result="sum")
        return [up, _ended(problem, "matrix0", problem.outputs[0], columns, factors=[side])]
    parts = zip(problem.outputs, problem.columns, problem.first_tiles, strict=False)
    return [
        _ended(problem, f"matrix{i}", output, columns, first=tile * TILE_COLUMNS)
        for i, (output, columns, tile) in enumerate(parts)
    ]


def _ended(
    problem: GemvProblem,
    matrix: str,
    output: str,
    columns: int,
    *,
    first: int = 0,
    factors: Sequence[Side] = (),
) -> Contraction:
    """A product with all that follows; its packed columns begin with ``first``."""
    reads, value = [], "sum"
    if problem.has_bias:
        bias = problem.inputs["bias"]
        reads.append(Side(buffer=bias, dtype=problem.dtype, batch=0, m=0, n=1, offset=first))
        value = "sum + x0"
    result = ACTIVATIONS[problem.activation].format("t0")
    for factor in factors:
        reads.append(factor)
        result = f"({result}) * x{len(reads) - 1}"
    if problem.has_residual:
        reads.append(_like_output(problem, problem.inputs["residual"], columns))
        result = f"({result}) + x{len(reads) - 1}"
    side = _like_output(problem, output, columns)
    return _contraction(problem, matrix, side, reads=reads, value=value, result=result)


def _like_output(problem: GemvProblem, buffer: str, columns: int) -> Side:
    return Side(buffer=buffer, dtype=problem.dtype, batch=0, m=columns, n=1)


def _contraction(
    problem: GemvProblem,
    matrix: str,
    out: Side,
    *,
    reads: Sequence[Side],
    result: str,
    value: str = "sum",
) -> Contraction:
    depth = problem.depth
    return Contraction(
        batch=1,
        m=problem.rows,
        n=out.m,
        k=depth,
        dtype=problem.dtype,
        a=Operand(buffer=problem.inputs["x"], batch=0, row=depth, depth=1),
        b=Operand(buffer=matrix, batch=0, row=depth, depth=1),
        out=out,
        reads=tuple(reads),
        lines=(f"const float t0 = {value};",),
        result=result,
    )


def unpack_launch(problem: GemvProblem) -> CudaLaunch:
    """Codes into floats."""
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
    names = [matrix.name for matrix in matrices_of(problem)]
    roles = [role for role in ("codes", "scales", "zeros") if role in problem.inputs]
    parameters = [f"{POINTERS[role]} {role}" for role in roles] + [f"elem* {n}" for n in names]
    given = "zeros" if problem.has_zeros else "nullptr"
    wrapper = (
        f"__device__ __forceinline__ void unpack({', '.join(parameters)}) {{\n"
        f"  gemm_unpack(codes, scales, {given}, {{{', '.join(names)}}});\n}}\n"
    )
    parts = (*lines, _rows_text(problem, names), *map(device_code, TEXT_PARTS), wrapper)
    return CudaLaunch(
        function="unpack",
        source="\n".join(parts),
        headers=(INCLUDES,),
        arguments=(*(problem.inputs[role] for role in roles), *names),
        grid=(-(-problem.n_tiles * problem.n_units // WARPS),),
        block=(32 * WARPS,),
    )


def _rows_text(problem: GemvProblem, names: Sequence[str]) -> str:
    """The matrices, and the row of one of them behind a column of a tile."""
    if problem.gated:
        row = f"(long long)(tile * {GATED_COLUMNS} + column % {GATED_COLUMNS}) * K"
        choices = [f"return (column < {GATED_COLUMNS} ? to.matrix0 : to.matrix1) + {row};"]
    else:
        choices = [
            f"if (tile < {end}) return to.{name} + "
            f"(long long)((tile - {first}) * {TILE_COLUMNS} + column) * K;"
            for name, (first, end) in zip(names, pairwise(problem.first_tiles), strict=True)
        ]
        choices.append("return nullptr;")
    return "\n".join(
        [
            f"struct Matrices {{ elem {', '.join(f'*{name}' for name in names)}; }};",
            "__device__ __forceinline__ elem* row_of(const Matrices& to, int tile, int column) {",
            *(f"  {choice}" for choice in choices),
            "}",
        ]
    )
