"""Products by tensor cores of warps without a GPU: coverage, space, machine code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.errors import UnknownSpace
from schedules.matmul_mma import MatmulMmaSpace, matmul_mma_space
from schedules.spaces import require_spaces, spaces_for
from schedules.target import KNOWN_TARGETS, known_target
from schedules.task import Task
from tests.schedules.products import Product, built_point, product_workload

SQUARE = Product(m=512, n=512, k=512)


def task_of(product: Product, target: str = "a100") -> Task:
    return Task(workload=product_workload(product), target=known_target(target))


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("sizes", [(100, 60, 36), (33, 51, 45)], ids=["fours", "odd"])
def test_any_extents_and_layouts_are_covered(layout: str, sizes: tuple[int, int, int]) -> None:
    m, n, k = sizes
    assert matmul_mma_space(task_of(Product(m=m, n=n, k=k, layout=layout))) is not None


def test_on_hopper_it_serves_what_warpgroups_do_not() -> None:
    assert "matmul_mma" not in spaces_for(task_of(SQUARE, "h100"))
    assert spaces_for(task_of(Product(m=64, n=60, k=36), "h100"))[0] == "matmul_mma"
    assert spaces_for(task_of(SQUARE, "h100"), only=["matmul_mma"]) == ["matmul_mma"]


def test_float32_is_left_to_others() -> None:
    assert matmul_mma_space(task_of(Product(m=64, n=64, k=64, dtype="float32"))) is None


@pytest.mark.parametrize("target", KNOWN_TARGETS)
def test_points_fit_every_device_and_are_judged_alike_at_once(target: str) -> None:
    space = MatmulMmaSpace(task_of(SQUARE, target))
    assert len(space.points) > 10
    best = min(float(space.estimate(point)) for point in space.points)
    largest = known_target(target).shared_memory_per_block_bytes
    for point in space.points[::7]:
        assert space.refusal(point) is None
        assert space._needs(point).shared_bytes <= largest
        assert float(space.estimate(point)) <= space.patience * best
        assert np.isfinite(space.numbers(point)).all()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a100", "rtx5090"])
def test_machine_code_multiplies_what_it_must_and_spills_nothing(
    target: str, tmp_path: Path
) -> None:
    space = MatmulMmaSpace(task_of(SQUARE, target), patience=1e9)
    values = {"tile_row": 128, "tile_column": 128, "warps_row": 2, "warps_column": 2}
    values |= {"step": 32, "stages": 4, "splits": 1}
    build = built_point(space, values, tmp_path, known_target(target), decoded=True)
    (kernel,) = build.stats.kernels
    assert kernel.spill_bytes == 0
    if kernel.mix is not None:
        macs = kernel.mix.tensor_macs * kernel.grid[0] * kernel.block[0] / 32
        assert macs == SQUARE.m * SQUARE.n * SQUARE.k


def test_a_space_that_serves_no_task_is_named() -> None:
    require_spaces([task_of(SQUARE)], ["matmul_mma"])
    with pytest.raises(
        UnknownSpace, match=r"softmaxx on NVIDIA A100.*expected matmul_mma or tvm"
    ) as caught:
        require_spaces([task_of(SQUARE)], ["softmaxx"])
    assert caught.value.exit_status == 2
