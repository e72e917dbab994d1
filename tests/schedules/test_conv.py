"""Recognition of convolutions; space, cubins and emulated program of their family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.conv import ConvSpace, conv_space
from schedules.conv_cuda import launches
from schedules.conv_layout import unit_channels
from schedules.conv_problem import convolution_of
from schedules.convolution import Direction
from schedules.families import own_spaces
from schedules.product_ending import partial_sums
from schedules.programs import workload_of
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.conv_workloads import Conv, conv_expected, conv_space_of, conv_workload
from tests.schedules.cuda_emulation import emulate
from tests.schedules.products import built_point

pytestmark = pytest.mark.timeout(120)

PLAIN = {
    "box_width": 4,
    "box_height": 4,
    "box_images": 1,
    "tile_column": 16,
    "multipliers": 1,
    "stages": 2,
    "blocks_per_core": 1,
    "cluster": 1,
    "splits": 1,
    "columns_first": 0,
    "halo": 0,
}


def test_extents_strides_and_padding_are_found() -> None:
    conv = Conv(
        images=2, height=14, width=17, channels=24, filters=40, stride=2, padding=(2, 1, 0, 3)
    )
    found = convolution_of(conv_workload(conv))
    assert found is not None
    assert found.height == Direction(extent=14, out=7, kernel=3, stride=2, dilation=1, padding=2)
    assert found.width == Direction(extent=17, out=10, kernel=3, stride=2, dilation=1, padding=1)
    assert (found.images, found.channels, found.filters) == (2, 24, 40)
    assert (found.product.m, found.product.n, found.product.k) == (140, 40, 216)


def test_dilation_and_one_place_without_padding() -> None:
    conv = Conv(height=14, width=14, channels=24, filters=40, dilation=3, padding=(3,) * 4)
    found = convolution_of(conv_workload(conv))
    assert found is not None and (found.width.dilation, found.width.padding) == (3, 3)
    conv = Conv(height=14, width=14, channels=24, filters=40, kernel=1, stride=2, padding=(0,) * 4)
    found = convolution_of(conv_workload(conv))
    assert found is not None and (found.places, found.height.stride) == (1, 2)


def test_the_ending_reads_bias_and_residual() -> None:
    found = convolution_of(
        conv_workload(Conv(height=8, width=8, channels=8, filters=16, ending="residual"))
    )
    assert found is not None
    assert [(side.m, side.n) for side in found.product.reads] == [(0, 1), (16, 1)]
    assert found.product.result == "t3" and "fmaxf" in found.product.lines[-1]


def test_rows_of_few_channels_become_windows() -> None:
    conv = Conv(
        height=16, width=22, channels=4, filters=16, kernel=8, stride=2, padding=(3, 0, 4, 0)
    )
    found = convolution_of(conv_workload(conv))
    assert found is not None
    assert (found.channels, found.pixel_step, found.line_step) == (32, 8, 88)
    assert (found.width.extent, found.width.kernel, found.places) == (8, 1, 8)


@pytest.mark.parametrize(
    "conv",
    [
        Conv(height=8, width=8, channels=16, filters=16, groups=2),
        Conv(height=8, width=8, channels=3, filters=16),
        Conv(height=8, width=8, channels=16, filters=16, dtype="float32"),
    ],
    ids=["groups", "padded_colours", "float32"],
)
def test_others_are_left_to_the_compiler(conv: Conv) -> None:
    task = Task(workload=conv_workload(conv), target=known_target("h100"))
    assert conv_space(task) is None


def test_padding_by_anything_but_zeros_is_not_covered() -> None:
    from tvm import te, topi

    x = te.placeholder((1, 8, 8, 16), "float16", name="x")
    w = te.placeholder((16, 3, 3, 16), "float16", name="w")
    padded = topi.nn.pad(x, [0, 1, 1, 0], [0, 1, 1, 0], pad_value=1.0)
    sums = topi.nn.conv(padded, w, 1, 0, 1, 1, "NHWC", "OHWI", "float32")
    workload = workload_of(te.create_prim_func([x, w, sums]), name="conv")
    assert convolution_of(workload) is None


def test_only_hopper_has_the_family() -> None:
    workload = conv_workload(Conv(height=8, width=8, channels=16, filters=16))
    names = {
        target: [space.name for space in own_spaces(Task(workload=workload, target=known))]
        for target in ("h100", "a100")
        for known in [known_target(target)]
    }
    assert "conv" in names["h100"] and "conv" not in names["a100"]


@pytest.mark.parametrize(
    ("channels", "unit"), [(8, 8), (16, 16), (24, 32), (32, 32), (64, 64), (72, 32), (512, 64)]
)
def test_lines_are_as_long_as_the_channels_fill(channels: int, unit: int) -> None:
    assert unit_channels(channels) == unit


def test_boxes_are_kept_for_all_places_only_without_stride() -> None:
    def halos(conv: Conv) -> tuple[int, ...]:
        return next(knob.values for knob in conv_space_of(conv).knobs if knob.name == "halo")

    assert halos(Conv(height=8, width=8, channels=64, filters=16)) == (0, 1)
    assert halos(Conv(height=8, width=8, channels=64, filters=16, stride=2)) == (0,)
    assert halos(Conv(height=8, width=8, channels=32, filters=16)) == (0,)


def test_impossible_points_are_refused() -> None:
    space = conv_space_of(Conv(images=4, height=28, width=28, channels=64, filters=128))
    good = {**PLAIN, "box_width": 14, "tile_column": 128}
    assert space.refusal(good) is None
    for bad in (
        {"box_width": 28, "box_height": 28},
        {"multipliers": 2, "blocks_per_core": 2},
        {"tile_column": 256, "box_width": 28, "box_height": 7},
        {"cluster": 2, "splits": 2},
        {"stages": 8, "splits": 8},
        {"box_images": 2},
        {"cluster": 8},
    ):
        assert space.refusal({**good, **bad}) is not None, bad


EMULATED: dict[str, tuple[Conv, dict[str, int]]] = {
    "stride_residual": (
        Conv(images=2, height=7, width=8, channels=24, filters=20, stride=2, ending="residual"),
        {"columns_first": 1},
    ),
    "halo_cluster": (
        Conv(height=5, width=6, channels=128, filters=24),
        {"halo": 1, "tile_column": 32, "cluster": 2, "stages": 3},
    ),
}
OTHERS: dict[str, tuple[Conv, dict[str, int]]] = {
    "long_lines_two_rounds": (
        Conv(height=5, width=6, channels=128, filters=24),
        {"tile_column": 32, "stages": 3},
    ),
    "images_dilation_cluster_two_warpgroups": (
        Conv(images=3, height=5, width=7, channels=16, filters=16, dilation=2, padding=(2,) * 4),
        {"box_width": 7, "box_height": 5, "box_images": 2, "multipliers": 2, "cluster": 2},
    ),
    "eight_channels": (
        Conv(height=8, width=8, channels=8, filters=16, kernel=5, padding=(2,) * 4),
        {"box_width": 8, "box_height": 8},
    ),
    "windows": (
        Conv(height=8, width=14, channels=4, filters=16, kernel=8, stride=2, padding=(3, 0, 4, 0)),
        {},
    ),
    "split_bfloat16": (
        Conv(height=6, width=6, channels=64, filters=16, padding=(2, 1, 0, 3), dtype="bfloat16"),
        {"splits": 3},
    ),
    "halo_images_two_boxes": (
        Conv(
            images=4,
            height=7,
            width=7,
            channels=192,
            filters=20,
            ending="residual",
        ),
        {"halo": 1, "box_width": 7, "box_height": 7, "box_images": 2},
    ),
}
EMULATED_CASES = [
    *EMULATED,
    *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS),
]


@pytest.mark.parametrize("name", EMULATED_CASES)
def test_emulated(name: str, tmp_path: Path) -> None:
    conv, changed = {**EMULATED, **OTHERS}[name]
    task = Task(workload=conv_workload(conv), target=known_target("h100"))
    problem = convolution_of(task.workload)
    assert problem is not None
    space = ConvSpace(task, problem)
    values = {**PLAIN, **changed}
    assert space.refusal(values) is None, space.refusal(values)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        spec.name: rng.standard_normal(spec.shape).astype(_numpy_type(spec.dtype))
        for spec in task.workload.inputs
    }
    wanted = conv_expected(conv, [arrays[spec.name] for spec in task.workload.inputs])
    (out,) = task.workload.outputs
    arrays[out.name] = np.full(out.shape, np.nan, _numpy_type(out.dtype))
    for spec in partial_sums(problem.product, values["splits"]):
        arrays[spec.name] = np.full(spec.shape, np.nan, np.float32)
    assert emulate(launches(problem, space.schedule(values)), arrays, tmp_path) == 0
    tolerance = 2e-2 if conv.dtype == "bfloat16" else 5e-3
    np.testing.assert_allclose(
        arrays[out.name].astype(float), wanted, rtol=tolerance, atol=10 * tolerance
    )


def _numpy_type(dtype: str) -> Any:
    import ml_dtypes

    return getattr(ml_dtypes, dtype, dtype)


def test_the_plain_point_is_machine_code_without_spills(tmp_path: Path) -> None:
    space = conv_space_of(Conv(height=28, width=28, channels=64, filters=128, ending="residual"))
    values = {**PLAIN, "box_width": 14, "box_height": 14, "tile_column": 128, "multipliers": 2}
    built = built_point(space, {**values, "stages": 4}, tmp_path, decoded=True)
    (kernel,) = built.stats.kernels
    assert kernel.spill_bytes == 0 and kernel.mix.tensor_macs > 0


def test_features_tell_the_estimate() -> None:
    space = conv_space_of(Conv(images=2, height=14, width=14, channels=64, filters=64))
    some = space.sample(5, np.random.default_rng(0))
    rows = space.features(some)
    assert rows.shape[0] == 5 and np.isfinite(rows).all()
