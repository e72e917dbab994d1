"""Few rows times a matrix of half precision on a GPU, from one warp to split and ragged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.knobs import Value
from schedules.matmul_rows import MatmulRowsSpace
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.product_runs import run_point
from tests.schedules.products import Product, product_workload

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN: dict[str, Value] = {
    "units": 1,
    "warps_column": 1,
    "warps_depth": 2,
    "in_flight": 1,
    "cluster": 1,
    "splits": 1,
}


def rows_space(product: Product) -> MatmulRowsSpace:
    """All points that can run, however slow."""
    task = Task(workload=product_workload(product), target=known_target("h100"))
    return MatmulRowsSpace(task, patience=1e9)


def run(product: Product, values: dict[str, Value], folder: Path) -> None:
    """See ``run_point``."""
    run_point(product, rows_space(product), values, folder)


LAYOUTS = ("nn", "nt")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("m", [1, 8, 11])
def test_one_block(layout: str, m: int, tmp_path: Path) -> None:
    run(Product(m=m, n=64, k=64, layout=layout), PLAIN, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("cluster", "splits"), [(1, 1), (2, 1), (8, 1), (1, 2), (1, 16)])
def test_warps_and_blocks_that_share_the_terms(
    layout: str, cluster: int, splits: int, tmp_path: Path
) -> None:
    # Large clusters need two blocks on a multiprocessor, so small ones.
    units = 1 if cluster == 8 else 2
    values = {**PLAIN, "units": units, "warps_column": 2, "warps_depth": 4, "in_flight": 2}
    one = Product(m=5, n=520, k=4096, layout=layout, dtype="bfloat16", ending="gelu")
    run(one, {**values, "cluster": cluster, "splits": splits}, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ragged_terms_and_columns(layout: str, tmp_path: Path) -> None:
    one = Product(m=16, n=1000, k=1000, layout=layout, ending="silu")
    run(one, {**PLAIN, "in_flight": 4, "splits": 2}, tmp_path)
    run(one, {**PLAIN, "warps_column": 4, "in_flight": 2, "cluster": 4}, tmp_path)


def test_columns_that_are_no_multiple_of_four(tmp_path: Path) -> None:
    run(Product(m=3, n=77, k=136, layout="nt", ending="gelu"), PLAIN, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches(layout: str, tmp_path: Path) -> None:
    run(Product(m=4, n=72, k=200, layout=layout, batch=3, ending="float32"), PLAIN, tmp_path)


@pytest.mark.parametrize(
    "one",
    [
        Product(m=1, n=4096, k=4096),
        Product(m=1, n=1000, k=2048, layout="nt", ending="gelu"),
        Product(m=16, n=2048, k=4096, layout="nt", dtype="bfloat16"),
        Product(m=13, n=520, k=1096, ending="gelu"),
    ],
)
def test_random_points(one: Product, tmp_path: Path) -> None:
    space = rows_space(one)
    for candidate in space.sample(6, np.random.default_rng(0)):
        run(one, space.values_of(candidate), tmp_path)


@pytest.mark.parametrize(("cluster", "splits"), [(1, 1), (2, 1), (1, 2)])
def test_pairs_of_columns(cluster: int, splits: int, tmp_path: Path) -> None:
    values = PLAIN | {"cluster": cluster, "splits": splits}
    run(Product(m=5, n=200, k=520, ending="gated"), values, tmp_path)
