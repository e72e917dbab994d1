"""The convolution family on the GPU: every kind of convolution, every decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.knobs import KnobSpace, Value
from tests.schedules.conv_workloads import STEM, Conv, conv_space_of, conv_workload
from tests.schedules.product_runs import ROUNDING, SLACK, SUM_ROUNDING
from tests.schedules.products import built_point

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN: dict[str, Value] = {
    "box_images": 1,
    "tile_column": 64,
    "multipliers": 1,
    "stages": 4,
    "blocks_per_core": 1,
    "cluster": 1,
    "splits": 1,
    "columns_first": 0,
    "halo": 0,
}


def expected(conv: Conv, inputs: list[Any]) -> Any:
    """The convolution in float64 on the GPU."""
    import torch

    x, w, *more = [each.double() for each in inputs]
    top, left, bottom, right = conv.padding
    x = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        x, w.permute(0, 3, 1, 2), stride=conv.stride, dilation=conv.dilation
    ).permute(0, 2, 3, 1)
    return torch.relu(out + more[0] + more[1]) if conv.ending == "residual" else out


def run(conv: Conv, values: Mapping[str, Value], folder: Path) -> None:
    """See :func:`run_point`; boxes are the largest unless given."""
    space = conv_space_of(conv)
    largest = {knob.name: knob.values[-1] for knob in space.knobs if knob.name.startswith("box_")}
    run_point(conv, space, {**largest, **values}, folder)


def run_point(conv: Conv, space: KnobSpace, values: Mapping[str, Value], folder: Path) -> None:
    """Build one point, run it twice and compare every element."""
    import torch

    from effcompile.measure.session import load_runtime

    assert space.refusal(values) is None, (space.refusal(values), values)
    build = built_point(space, values, folder)
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    dtype = getattr(torch, conv.dtype)
    torch.manual_seed(1)
    inputs = [torch.randn(s, device="cuda").to(dtype) for s in conv.shapes()]
    wanted = expected(conv, inputs)
    out_dtype = getattr(torch, conv_workload(conv).outputs[0].dtype)
    terms = conv.channels * conv.kernel**2
    rounding = ROUNDING[conv.dtype]
    for _ in range(2):
        out = torch.full(wanted.shape, float("nan"), device="cuda", dtype=out_dtype)
        function(*(tvm.runtime.from_dlpack(each) for each in (*inputs, out)))
        torch.cuda.synchronize()
        error = (out.double() - wanted).abs()
        allowed = rounding * wanted.abs() + rounding * 0.05 * terms**0.5
        wrong = ~(error <= allowed + SLACK[conv.dtype] + SUM_ROUNDING * terms)
        where = wrong.nonzero()
        assert not wrong.any(), (
            f"{conv} {values}: {len(where)} of {wrong.numel()} wrong, "
            f"{int(out.isnan().sum())} NaN; first at {where[0].tolist()}: found "
            f"{float(out[tuple(where[0])])}, expected {float(wanted[tuple(where[0])])}"
        )


@pytest.mark.parametrize(
    "conv",
    [
        Conv(height=56, width=56, channels=64, filters=64),
        Conv(height=29, width=23, channels=64, filters=72, stride=2),
        Conv(height=20, width=30, channels=96, filters=64, dilation=2, padding=(2, 2, 2, 2)),
        Conv(height=20, width=30, channels=64, filters=64, padding=(2, 1, 0, 3)),
        Conv(height=28, width=28, channels=72, filters=64, kernel=1, stride=2, padding=(0,) * 4),
        Conv(height=31, width=17, channels=16, filters=48, kernel=5, padding=(2, 2, 2, 2)),
        Conv(height=32, width=32, channels=8, filters=64, kernel=7, stride=2, padding=(3,) * 4),
        replace(STEM, images=1),
        Conv(height=224, width=224, channels=3, filters=64, kernel=16, stride=16, padding=(0,) * 4),
        Conv(images=3, height=9, width=9, channels=64, filters=30, ending="residual"),
        Conv(height=19, width=21, channels=64, filters=64, dtype="bfloat16", ending="residual"),
        Conv(height=19, width=21, channels=64, filters=64, ending="float32"),
    ],
    ids=str,
)
def test_kinds(conv: Conv, tmp_path: Path) -> None:
    run(conv, fitting(conv), tmp_path)


def fitting(conv: Conv) -> dict[str, Value]:
    """A plain point, with a box that fits 64 rows."""
    width = min(conv.out[2], 8)
    space = conv_space_of(conv)
    boxes = {knob.name: knob.values for knob in space.knobs}
    chosen = max(value for value in boxes["box_width"] if int(value) <= width)
    rest = 1 if conv.stride > 8 else 64 // int(chosen)
    high = max(value for value in boxes["box_height"] if int(value) <= rest)
    columns = 32 if conv.filters < 64 else 64
    small = {"box_width": chosen, "box_height": high, "box_images": 1, "tile_column": columns}
    return {**PLAIN, **small, "stages": 2}


@pytest.mark.parametrize(
    "values",
    [
        {"cluster": 2},
        {"cluster": 8, "stages": 2},
        {"splits": 3},
        {"splits": 8},
        {"tile_column": 256},
        {"tile_column": 192, "multipliers": 2, "box_images": 2, "stages": 3},
        {"blocks_per_core": 2, "columns_first": 1, "box_width": 2},
        {"box_images": 3, "tile_column": 128, "multipliers": 2, "stages": 3},
        {"box_images": 4, "tile_column": 32, "stages": 3, "cluster": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", ["cast", "residual"])
def test_decisions(values: dict[str, Value], ending: str, tmp_path: Path) -> None:
    conv = Conv(images=13, height=7, width=7, channels=256, filters=256, ending=ending)
    run(conv, {**PLAIN, **values}, tmp_path)


@pytest.mark.parametrize(
    "conv",
    [
        Conv(images=16, height=28, width=28, channels=128, filters=128),
        Conv(height=14, width=14, channels=256, filters=256, ending="residual"),
        replace(STEM, images=2),
    ],
    ids=str,
)
def test_random_points(conv: Conv, tmp_path: Path) -> None:
    space = conv_space_of(conv)
    for candidate in space.sample(4, np.random.default_rng(0)):
        run(conv, space.values_of(candidate), tmp_path)
