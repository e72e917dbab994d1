"""Recognition of matrix products, and the space and the cubins of the Hopper family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effcompile.measure import libraries
from effcompile.sass.cubin import kernels_in
from effcompile.sass.opcodes import Op
from schedules import _tvm
from schedules.contraction_problem import contraction_of
from schedules.matmul import matmul_space
from schedules.matmul_cuda import (
    COPIER_AND_MULTIPLIER_REGISTERS,
    asks_ahead,
    launches,
    n_works,
)
from schedules.programs import workload_of
from schedules.spaces import spaces_for
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.products import Product, built_point, product_space, product_workload

SIXTEEN_BYTES = 6
"""In the size field of a memory instruction."""


def test_steps_of_every_layout_are_found() -> None:
    found = contraction_of(product_workload(Product(m=24, n=40, k=56, layout="tn", batch=3)))
    assert found is not None
    assert (found.batch, found.m, found.n, found.k) == (3, 24, 40, 56)
    assert (found.a.batch, found.a.row, found.a.depth) == (24 * 56, 1, 24)
    assert (found.b.batch, found.b.row, found.b.depth) == (40 * 56, 1, 40)
    assert (found.out.batch, found.out.m, found.out.n) == (24 * 40, 40, 1)


def test_batches_of_one_matrix_fold_into_rows() -> None:
    found = contraction_of(
        product_workload(Product(m=24, n=40, k=56, layout="nt", batch=3, shared_b=True))
    )
    assert found is not None
    assert (found.batch, found.m, found.b.batch, found.b.depth) == (1, 72, 0, 1)


def test_the_ending_reads_bias_and_residual() -> None:
    found = contraction_of(product_workload(Product(m=24, n=40, k=56, ending="gelu")))
    assert found is not None
    assert [(side.m, side.n) for side in found.reads] == [(0, 1), (40, 1)]
    assert found.lines[1:3] == ("const float t1 = (t0 + x0);", "const float t2 = (t1 + x1);")
    assert any("erff" in line for line in found.lines)


@pytest.mark.parametrize(
    ("extent", "splits", "early", "ahead"),
    [(1024, 1, True, True), (2048, 1, True, False), (1024, 2, False, False)],
)
def test_launches_of_one_kernel_start_early_and_small_ones_ask_for_operands(
    extent: int, splits: int, early: bool, ahead: bool
) -> None:
    space = product_space(Product(m=extent, n=extent, k=extent))
    problem = contraction_of(space._workload)
    assert problem is not None
    point = next(one for one in space.points if one["splits"] == splits and one["cluster"] == 1)
    schedule = space.schedule(point)
    assert asks_ahead(problem, schedule) == ahead
    first = launches(problem, schedule)[0]
    assert first.early == early
    assert f"EARLY = {int(early)};" in first.source
    assert f"AHEAD = {int(ahead)};" in first.source


def convolution(channels: int, filters: int, *, kernel: int, pad: int) -> Workload:
    """A (2, channels, 8, 16) image in half precision, summed in float32."""
    _tvm.load()
    from tvm import te, tirx, topi

    image = te.placeholder((2, channels, 8, 16), name="x", dtype="float16")
    weight = te.placeholder((filters, channels, kernel, kernel), name="w", dtype="float16")
    sums = topi.nn.conv2d_nchw(image, weight, 1, pad, 1, out_dtype="float32")
    result = te.compute(sums.shape, lambda *i: tirx.Cast("float16", sums(*i)), name="y")
    return workload_of(te.create_prim_func([image, weight, result]), name="conv")


def test_a_convolution_of_extent_one_is_a_product_of_its_filters_and_each_image() -> None:
    found = contraction_of(convolution(24, 40, kernel=1, pad=0))
    assert found is not None
    assert (found.batch, found.m, found.n, found.k) == (2, 40, 128, 24)
    assert (found.a.buffer, found.a.batch, found.a.row, found.a.depth) == ("w", 0, 24, 1)
    assert (found.b.buffer, found.b.batch, found.b.row, found.b.depth) == ("x", 24 * 128, 1, 128)
    assert (found.out.batch, found.out.m, found.out.n) == (40 * 128, 128, 1)


@pytest.mark.parametrize(("kernel", "pad"), [(1, 1), (3, 1), (3, 0)])
def test_other_convolutions_are_no_products(kernel: int, pad: int) -> None:
    assert contraction_of(convolution(24, 40, kernel=kernel, pad=pad)) is None


@pytest.mark.parametrize(
    "product",
    [
        Product(m=64, n=64, k=64, dtype="float32"),
        Product(m=64, n=60, k=64, layout="nn"),
        Product(m=64, n=64, k=36, layout="nt"),
    ],
)
def test_what_the_copies_cannot_read_is_left_to_tvm(product: Product) -> None:
    task = Task(workload=product_workload(product), target=known_target("h200"))
    assert matmul_space(task) is None


def test_warpgroups_multiply_on_hopper_only() -> None:
    workload = product_workload(Product(m=256, n=256, k=256))
    assert spaces_for(Task(workload=workload, target=known_target("h200")))[0] == "matmul"
    for other in ("a100", "rtx4090", "b200", "rtx5090"):
        task = Task(workload=workload, target=known_target(other))
        assert matmul_space(task) is None
        assert spaces_for(task)[0] == "matmul_mma"


@pytest.mark.parametrize(
    "product",
    [
        Product(m=16, n=4096, k=4096, layout="nt", ending="gelu"),
        Product(m=4096, n=4096, k=4096),
        Product(m=520, n=1000, k=1480, layout="tn", dtype="bfloat16", ending="silu"),
    ],
)
@pytest.mark.slow
def test_points_build_without_spills_and_with_enough_registers(
    product: Product, tmp_path: Path
) -> None:
    space = product_space(product)
    assert len(space.points) > 100
    for candidate in space.sample(6, np.random.default_rng(0)):
        values = space.values_of(candidate)
        kernel = built_point(space, values, tmp_path).stats.kernels[0]
        schedule = space.schedule(values)
        copier, multiplier = COPIER_AND_MULTIPLIER_REGISTERS[
            schedule.multipliers, schedule.blocks_per_core
        ]
        granted = kernel.registers_per_thread * (schedule.multipliers + 1)
        # Warpgroups that ask for more than the others gave back would wait for ever.
        assert copier + multiplier * schedule.multipliers <= granted, (values, kernel)
        assert kernel.spill_bytes == 0, (values, kernel)


def test_the_benchmark_models_are_served_by_the_family() -> None:
    from effcompile.bench.single_ops import matmul_model
    from effcompile.extract import extract_tasks
    from effcompile.frontend.checking import prepare_model
    from effcompile.lower import lower

    target = known_target("h200")
    lowered = lower({"main": prepare_model(matmul_model(16, 512, 256, "float16"))}, target)
    (found,) = extract_tasks(lowered, target)
    problem = contraction_of(found.task.workload)
    assert problem is not None
    assert (problem.m, problem.n, problem.k, problem.out.dtype) == (16, 512, 256, "float16")
    assert spaces_for(found.task)[:2] == ["matmul_rows", "matmul"]


def test_blocks_that_share_columns_come_in_pairs_and_leave_no_block_idle() -> None:
    space = product_space(Product(m=1024, n=4096, k=1024))
    points = [space.schedule(values) for values in space.points]
    shared = [one for one in points if one.cluster == 2]
    assert shared
    assert all(one.group % 2 == 0 and one.n_blocks % 2 == 0 for one in shared)
    for values in space.points:
        one = space.schedule(values)
        works = n_works(contraction_of(space._workload), one)
        turns = -(-works // one.n_blocks)
        # One block or pair fewer would take another turn.
        assert turns == 1 or -(-works // (one.n_blocks - one.cluster)) > turns
        assert one.n_blocks <= max(132 * one.blocks_per_core, works if turns == 1 else 0)
    odd = product_space(Product(m=64, n=64, k=1024))
    assert all(odd.schedule(values).cluster == 1 for values in odd.points)


def test_blocks_of_a_cluster_add_what_parts_of_a_sum_they_have() -> None:
    space = product_space(Product(m=512, n=512, k=1024))
    both = [one for one in space.points if int(one["cluster"]) > 1 and int(one["splits"]) > 1]
    assert {one["splits"] for one in both} == {2, 4, 8}
    for values in both:
        one = space.schedule(values)
        assert (one.parts, one.splits, one.cluster) == (values["splits"], 1, 1)
        assert values["cluster"] == values["splits"]
        assert one.sum_bytes <= one.stages * one.stage_bytes
        assert one.n_blocks % one.parts == 0
    (launch,) = launches(space._problem, space.schedule(both[0]))
    assert launch.cluster == both[0]["cluster"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nt", "nn"])
def test_shared_columns_are_multicast(layout: str, tmp_path: Path) -> None:
    space = product_space(Product(m=1024, n=1024, k=1024, layout=layout, batch=2))
    values = next(
        one
        for one in space.points
        if one["cluster"] == 2
        and one["splits"] == 1
        and one["tile_column"] == 128
        and one["tile_row"] == 128
    )
    source = str(space.program(values))
    assert "CLUSTER = 2" in source
    assert built_point(space, values, tmp_path).stats.kernels[0].spill_bytes == 0


def test_instructions_whose_sums_exceed_a_thread_s_registers_are_refused() -> None:
    # 65536 registers for two blocks of 256 threads are 128 each; 64 x 256 needs 128 for sums alone,
    # and the compiler gives up on it.
    space = product_space(Product(m=1024, n=1024, k=1024))
    points = [space.schedule(values) for values in space.points]
    crowded = {one.tile_column for one in points if one.blocks_per_core == 2}
    assert max(crowded) == 192
    assert max(one.tile_column for one in points) == 256


def test_neighbours_of_batches_are_stored_by_one_instruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[bytes] = []
    monkeypatch.setattr(libraries, "mix_in", lambda image, *_, **__: images.append(image))
    space = product_space(Product(batch=4, m=256, n=3136, k=64))
    values = {
        "orientation": "straight",
        "tile_row": 128,
        "tile_column": 64,
        "multipliers": 1,
        "stages": 2,
        "blocks_per_core": 2,
        "group": 1,
        "splits": 1,
        "cluster": 1,
        "blocks": "persistent",
    }
    built_point(space, values, tmp_path, decoded=True)
    (code,) = kernels_in(images[0]).values()
    sizes = code.field(73, 3)[code.field(0, 9) == Op.STG]
    # Two parts of 64 rows, of which a thread has two with 16 elements each.
    assert sizes.tolist() == [SIXTEEN_BYTES] * 8
