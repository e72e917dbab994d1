"""Runs one point of a product's space on the GPU and compares every element."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schedules.knobs import KnobSpace, Value
from tests.schedules.products import Product, built_point, product_workload

ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-20}
SLACK = {"float16": 1e-3, "bfloat16": 1e-3, "float32": 1e-5}
SUM_ROUNDING = 2.0**-22
"""Of a float32 sum, per term, where terms have unit variance: errors grow as fast as the sums.

One term after the other in exact float32 arithmetic, the worst of a million sums of 1024 terms is
1.7e-4 to 2.1e-4 from float64, where this allows 2.4e-4 beside the rounding of the output.
"""


def expected(product: Product, inputs: list[Any]) -> Any:
    """The product in float64 on the GPU."""
    import torch

    a, b, *more = [each.double() for each in inputs]
    a = a.transpose(-1, -2) if product.layout[0] == "t" else a
    b = b.transpose(-1, -2) if product.layout[1] == "t" else b
    out = a @ b
    if product.ending == "gelu":
        out = torch.nn.functional.gelu(out + more[0] + more[1])
    if product.ending == "silu":
        out = torch.nn.functional.silu(out)
    if product.ending == "gated":
        out = torch.nn.functional.silu(out[..., ::2]) * out[..., 1::2]
    return out


def run_point(
    product: Product, space: KnobSpace, values: Mapping[str, Value], folder: Path
) -> None:
    """Build one point, run it twice and compare every element."""
    import torch

    from effcompile.measure.environment import detect_target
    from effcompile.measure.session import load_runtime

    assert space.refusal(values) is None, space.refusal(values)
    build = built_point(space, values, folder, detect_target("cuda"))
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    dtype = getattr(torch, product.dtype)
    torch.manual_seed(1)
    inputs = [torch.randn(s, device="cuda").to(dtype) for s in product.shapes()]
    wanted = expected(product, inputs)
    out_dtype = getattr(torch, product_workload(product).outputs[0].dtype)
    for _ in range(2):
        out = torch.full(wanted.shape, float("nan"), device="cuda", dtype=out_dtype)
        function(*(tvm.runtime.from_dlpack(each) for each in (*inputs, out)))
        torch.cuda.synchronize()
        check(product, values, out.double(), wanted)


def check(product: Product, values: Mapping[str, Value], out: Any, wanted: Any) -> None:
    """Rounding of the output, and of products of unit variance in a float32 sum."""
    rounding = ROUNDING[product.dtype]
    error = (out - wanted).abs()
    sums = SUM_ROUNDING * product.k
    allowed = (
        sums + rounding * wanted.abs() + rounding * 0.05 * product.k**0.5 + SLACK[product.dtype]
    )
    wrong = ~(error <= allowed)
    if not wrong.any():
        return
    where = wrong.nonzero()
    first = tuple(int(i) for i in where[0])
    rows = sorted({int(i) for i in where[:, -2][:100000].unique()})
    columns = sorted({int(i) for i in where[:, -1][:100000].unique()})
    pytest.fail(
        f"{product} {values}: {len(where)} of {wrong.numel()} wrong, {int(out.isnan().sum())} NaN; "
        f"first at {first}: found {float(out[first])}, expected {float(wanted[first])}; "
        f"{len(rows)} rows {rows[:20]}, {len(columns)} columns {columns[:40]}; "
        f"found there {out[first[:-1]][first[-1] : first[-1] + 8].tolist()}, "
        f"expected {wanted[first[:-1]][first[-1] : first[-1] + 8].tolist()}"
    )
