"""Products with packed quantised matrices as workloads."""

from __future__ import annotations

from typing import Any

from schedules import _tvm
from schedules.gemv_dequant_problem import input_roles, tiles_of
from schedules.packing import TILE_COLUMNS, packed_shape
from schedules.programs import workload_of
from schedules.workload import Attribute, Workload


def gemv_workload(
    rows: int,
    n_columns: int | tuple[int, ...],
    depth: int,
    bits: int,
    block: int,
    *,
    dtype: str = "float16",
    zeros: bool = False,
    bias: bool = False,
    activation: str = "",
    gated: bool = False,
    residual: bool = False,
    x_scales: str = "",
) -> Workload:
    """The workload that the front end makes of such a product.

    ``x_scales``: ``tensor`` or ``row`` for an int8 ``x``.
    """
    _tvm.load()
    from tvm import te

    from effcompile.frontend.kernels.gemv_dequant import gemv_definition

    columns = n_columns if isinstance(n_columns, tuple) else (n_columns,)
    n_tiles = sum(tiles_of(each, gated=gated) for each in columns)
    groups = (n_tiles, -(-depth // block), TILE_COLUMNS)
    attrs: dict[str, Attribute] = {
        "bits": bits,
        "block": block,
        "depth": depth,
        "columns": " ".join(map(str, columns)),
        "activation": activation,
        "gated": gated,
        "zeros": zeros,
        "bias": bias,
        "residual": residual,
        "x_scales": bool(x_scales),
    }
    specs: dict[str, tuple[tuple[int, ...], str]] = {
        "x": ((rows, depth), "int8" if x_scales else dtype),
        "codes": ((n_tiles, *packed_shape(1, depth, bits)[1:]), "uint32"),
        "scales": (groups, dtype),
        "zeros": (groups, "uint8"),
        "bias": ((n_tiles * TILE_COLUMNS,), dtype),
        "residual": ((rows, columns[0]), dtype),
        "x_scales": ((rows, 1) if x_scales == "row" else (1,), "float32"),
    }
    places: list[Any] = [
        te.placeholder(*specs[role], name=role)  # type: ignore[misc]
        for role in input_roles(attrs)
    ]
    made = gemv_definition(attrs)(*places)
    outputs = made if isinstance(made, list) else [made]
    function = te.create_prim_func([*places, *outputs])
    return workload_of(
        function, name="gemv", n_outputs=len(outputs), op="gemv_dequant", attrs=attrs
    )
