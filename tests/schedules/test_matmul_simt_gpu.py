"""Float32 products on a GPU, from one tile to ragged, layered, split and batched ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.knobs import Value
from schedules.matmul_simt import MatmulSimtSpace
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.product_runs import run_point
from tests.schedules.products import Product, product_workload

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN: dict[str, Value] = {
    "tile_row": 32,
    "tile_column": 32,
    "thread_row": 4,
    "thread_column": 4,
    "warps_depth": 1,
    "step": 16,
    "stages": 2,
    "cluster": 1,
    "splits": 1,
}


def simt_space(product: Product) -> MatmulSimtSpace:
    """All points that can run, however slow."""
    task = Task(workload=product_workload(product), target=known_target("h100"))
    return MatmulSimtSpace(task, patience=1e9)


def run(product: Product, values: dict[str, Value], folder: Path) -> None:
    """See ``run_point``."""
    run_point(product, simt_space(product), values, folder)


def product(m: int, n: int, k: int, layout: str = "nn", **more: object) -> Product:
    """A float32 product."""
    return Product(m=m, n=n, k=k, layout=layout, dtype="float32", **more)  # type: ignore[arg-type]


LAYOUTS = ("nn", "nt", "tn", "tt")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_tiles(layout: str, tmp_path: Path) -> None:
    large = {**PLAIN, "tile_row": 64, "tile_column": 128, "thread_row": 8, "thread_column": 8}
    run(product(64, 64, 64, layout), {**PLAIN, "tile_row": 64, "tile_column": 16}, tmp_path)
    run(product(128, 256, 256, layout), {**large, "stages": 4}, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ragged_and_unaligned(layout: str, tmp_path: Path) -> None:
    values = {**PLAIN, "stages": 3}
    run(product(77, 131, 77, layout, ending="gelu"), values, tmp_path)
    run(product(37, 102, 90, layout, ending="silu"), {**values, "splits": 2}, tmp_path)


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize(("cluster", "splits"), [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 16)])
def test_layers_clusters_and_a_second_launch(
    layers: int, cluster: int, splits: int, tmp_path: Path
) -> None:
    values = {**PLAIN, "warps_depth": layers, "cluster": cluster, "splits": splits}
    wide = {**values, "thread_column": 8}
    run(product(70, 100, 1000, ending="gelu"), wide if cluster == 8 else values, tmp_path)
    run(product(70, 100, 1000, "nt"), wide, tmp_path)


@pytest.mark.parametrize("shared_b", [False, True])
@pytest.mark.parametrize("layout", ["nn", "nt"])
def test_batches(layout: str, shared_b: bool, tmp_path: Path) -> None:
    one = product(72, 136, 200, layout, batch=3, shared_b=shared_b, ending="gelu")
    run(one, {**PLAIN, "splits": 2}, tmp_path)
    run(one, {**PLAIN, "cluster": 2}, tmp_path)


@pytest.mark.parametrize("layout", ["nn", "nt"])
@pytest.mark.parametrize("m", [1, 3, 16])
def test_few_rows(layout: str, m: int, tmp_path: Path) -> None:
    values = {**PLAIN, "tile_row": 1 if m == 1 else 4, "tile_column": 256, "thread_column": 8}
    values |= {"thread_row": 1 if m == 1 else 4, "step": 32, "warps_depth": 2, "cluster": 4}
    run(product(m, 520, 1032, layout, ending="gelu"), values, tmp_path)


@pytest.mark.parametrize(
    "one",
    [
        product(128, 256, 1024, ending="gelu"),
        product(1024, 1024, 1024),
        product(16, 1024, 2048, "nt"),
        product(77, 131, 130, "tt", ending="gelu"),
        product(7, 5, 3),
        product(1, 1000, 777, "nt"),
        product(300, 1002, 130, "tn", batch=2, ending="silu"),
    ],
)
def test_random_points(one: Product, tmp_path: Path) -> None:
    space = simt_space(one)
    for candidate in space.sample(6, np.random.default_rng(0)):
        run(one, space.values_of(candidate), tmp_path)
