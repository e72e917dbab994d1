"""Products by tensor cores of warps on a GPU, from one tile to ragged, split and batched ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effcompile.measure.environment import detect_target
from schedules.knobs import Value
from schedules.matmul_mma import MatmulMmaSpace
from schedules.task import Task
from tests.schedules.product_runs import run_point
from tests.schedules.products import Product, product_workload

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN: dict[str, Value] = {
    "tile_row": 64,
    "tile_column": 64,
    "warps_row": 2,
    "warps_column": 2,
    "step": 32,
    "stages": 2,
    "splits": 1,
}
LARGE = PLAIN | {"tile_row": 128, "tile_column": 256, "warps_column": 4, "step": 64, "stages": 3}
LAYOUTS = ("nt", "nn", "tt", "tn")


def space_of(product: Product) -> MatmulMmaSpace:
    """Of the GPU here, with every point that can run."""
    task = Task(workload=product_workload(product), target=detect_target("cuda"))
    return MatmulMmaSpace(task, patience=1e9)


def run(product: Product, values: dict[str, Value], folder: Path) -> None:
    """See ``run_point``."""
    run_point(product, space_of(product), values, folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_tile(layout: str, tmp_path: Path) -> None:
    run(Product(m=64, n=64, k=512, layout=layout), PLAIN, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_tiles(layout: str, tmp_path: Path) -> None:
    product = Product(m=512, n=768, k=640, layout=layout, dtype="bfloat16")
    run(product, LARGE, tmp_path)
    run(product, LARGE | {"tile_row": 256, "tile_column": 128, "warps_row": 4, "warps_column": 2},
        tmp_path)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("odd", [0, 2, 1], ids=["fours", "pairs", "single"])
def test_ragged(layout: str, odd: int, tmp_path: Path) -> None:
    product = Product(m=132 + odd, n=204 + odd, k=332 + odd, layout=layout, ending="gelu")
    run(product, PLAIN | {"stages": 4}, tmp_path)


@pytest.mark.parametrize("splits", [2, 4])
def test_split_sums(splits: int, tmp_path: Path) -> None:
    run(Product(m=136, n=200, k=1096), PLAIN | {"splits": splits}, tmp_path)


@pytest.mark.parametrize("ending", ["float32", "silu", "gelu"])
def test_endings(ending: str, tmp_path: Path) -> None:
    run(Product(m=200, n=264, k=520, ending=ending), PLAIN, tmp_path)


@pytest.mark.parametrize("shared_b", [False, True])
@pytest.mark.parametrize("layout", ["nn", "tt"])
def test_batches(layout: str, shared_b: bool, tmp_path: Path) -> None:
    product = Product(m=72, n=136, k=200, batch=3, layout=layout, shared_b=shared_b, ending="gelu")
    run(product, PLAIN, tmp_path)


@pytest.mark.parametrize(
    "product",
    [
        Product(m=16, n=4096, k=4096),
        Product(m=520, n=1000, k=1480, dtype="bfloat16", ending="gelu"),
        Product(m=2048, n=1024, k=512, layout="nt", ending="silu"),
        Product(m=7, n=72, k=24),
    ],
    ids=str,
)
def test_random_points(product: Product, tmp_path: Path) -> None:
    space = space_of(product)
    for candidate in space.sample(8, np.random.default_rng(0)):
        run(product, space.values_of(candidate), tmp_path)


@pytest.mark.parametrize("splits", [1, 2])
def test_pairs_of_columns(splits: int, tmp_path: Path) -> None:
    product = Product(m=132, n=200, k=332, ending="gated", dtype="bfloat16")
    run(product, PLAIN | {"splits": splits}, tmp_path)
