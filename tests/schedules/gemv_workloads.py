"""Products with packed quantised matrices as workloads."""

from __future__ import annotations

from typing import Any

from schedules import _tvm
from schedules.packing import TILE_COLUMNS, packed_shape
from schedules.programs import workload_of
from schedules.workload import Attribute, Workload


def gemv_workload(
    rows: int,
    n_columns: int,
    depth: int,
    bits: int,
    block: int,
    *,
    dtype: str = "float16",
    zeros: bool = False,
    bias: bool = False,
) -> Workload:
    """The workload that the front end makes of such a product."""
    _tvm.load()
    from tvm import te

    from effcompile.frontend.kernels.gemv_dequant import gemv_definition

    attrs: dict[str, Attribute] = {
        "bits": bits,
        "block": block,
        "depth": depth,
        "n_columns": n_columns,
        "zero_points": zeros,
        "bias": bias,
    }
    groups = (-(-n_columns // TILE_COLUMNS), -(-depth // block), TILE_COLUMNS)
    places: list[Any] = [
        te.placeholder((rows, depth), dtype, name="x"),
        te.placeholder(packed_shape(n_columns, depth, bits), "uint32", name="codes"),
        te.placeholder(groups, dtype, name="scales"),
    ]
    if zeros:
        places.append(te.placeholder(groups, "uint8", name="zeros"))
    if bias:
        places.append(te.placeholder((n_columns,), dtype, name="bias"))
    function = te.create_prim_func([*places, gemv_definition(attrs)(*places)])
    return workload_of(function, name="gemv", op="gemv_dequant", attrs=attrs)
