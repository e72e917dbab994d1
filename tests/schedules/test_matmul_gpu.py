"""Matrix products on a Hopper GPU, from one tile to ragged, split, swapped and batched ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.knobs import Value
from tests.schedules.product_runs import run_point
from tests.schedules.products import Product, product_space

pytestmark = pytest.mark.gpu

PLAIN: dict[str, Value] = {
    "orientation": "straight",
    "tile_row": 64,
    "tile_column": 64,
    "multipliers": 1,
    "stages": 2,
    "blocks_per_core": 1,
    "group": 1,
    "splits": 1,
    "cluster": 1,
    "blocks": "one_per_tile",
}


def run(product: Product, values: dict[str, Value], folder: Path) -> None:
    """See ``run_point``."""
    run_point(product, product_space(product), values, folder)


LAYOUTS = ("nt", "nn", "tt", "tn")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [64, 512])
def test_one_tile(layout: str, k: int, tmp_path: Path) -> None:
    run(Product(m=64, n=64, k=k, layout=layout), PLAIN, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_tiles_and_two_warpgroups(layout: str, tmp_path: Path) -> None:
    values = {**PLAIN, "tile_row": 128, "tile_column": 256, "multipliers": 2, "stages": 4}
    product = Product(m=512, n=768, k=640, layout=layout, dtype="bfloat16")
    run(product, values, tmp_path)
    run(product, {**values, "tile_row": 256, "tile_column": 128}, tmp_path)


def test_three_warpgroups(tmp_path: Path) -> None:
    values = {**PLAIN, "tile_row": 192, "tile_column": 192, "multipliers": 3, "stages": 3}
    run(Product(m=400, n=520, k=392), values, tmp_path)


@pytest.mark.parametrize("blocks_per_core", [1, 2])
def test_persistent_blocks_take_several_tiles(blocks_per_core: int, tmp_path: Path) -> None:
    values = {
        **PLAIN,
        "tile_row": 128,
        "stages": 3,
        "group": 8,
        "blocks_per_core": blocks_per_core,
        "blocks": "persistent",
    }
    run(Product(m=3000, n=2056, k=328), values, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_blocks_that_share_columns(layout: str, tmp_path: Path) -> None:
    values = {**PLAIN, "tile_column": 128, "stages": 4, "group": 4, "cluster": 2}
    run(Product(m=504, n=392, k=520, layout=layout, ending="gelu"), values, tmp_path)
    run(Product(m=256, n=256, k=640, layout=layout, batch=3), values, tmp_path)


def test_shared_columns_in_large_persistent_split_blocks(tmp_path: Path) -> None:
    values = {**PLAIN, "tile_row": 128, "multipliers": 2, "group": 8, "cluster": 2, "stages": 4}
    large = {**values, "tile_column": 256, "blocks": "persistent"}
    run(Product(m=4096, n=3000, k=456, dtype="bfloat16"), large, tmp_path)
    split = {**values, "tile_column": 128, "group": 4, "splits": 2}
    run(Product(m=512, n=264, k=1096), split, tmp_path)
    crowded = {**values, "multipliers": 1, "tile_row": 64, "tile_column": 128}
    run(Product(m=1024, n=1000, k=328), {**crowded, "blocks_per_core": 2}, tmp_path)


@pytest.mark.parametrize("layout", ["nn", "nt"])
@pytest.mark.parametrize("splits", [2, 4])
def test_split_sums(layout: str, splits: int, tmp_path: Path) -> None:
    run(Product(m=136, n=200, k=1096, layout=layout), {**PLAIN, "splits": splits}, tmp_path)


@pytest.mark.parametrize("ending", ["float32", "silu", "gelu"])
@pytest.mark.parametrize("splits", [1, 2])
def test_endings(ending: str, splits: int, tmp_path: Path) -> None:
    values = {**PLAIN, "tile_column": 128, "splits": splits}
    run(Product(m=200, n=264, k=520, ending=ending), values, tmp_path)


@pytest.mark.parametrize("layout", ["nn", "nt"])
@pytest.mark.parametrize("m", [1, 16, 37])
def test_swapped(layout: str, m: int, tmp_path: Path) -> None:
    values = {**PLAIN, "orientation": "swapped", "tile_column": 16, "stages": 4, "splits": 2}
    run(Product(m=m, n=520, k=1032, layout=layout, ending="gelu"), values, tmp_path)


@pytest.mark.parametrize("shared_b", [False, True])
@pytest.mark.parametrize("layout", ["nn", "tt"])
def test_batches(layout: str, shared_b: bool, tmp_path: Path) -> None:
    product = Product(m=72, n=136, k=200, batch=3, layout=layout, shared_b=shared_b, ending="gelu")
    run(product, PLAIN, tmp_path)


def test_columns_that_are_no_multiple_of_eight(tmp_path: Path) -> None:
    run(Product(m=77, n=131, k=136, layout="nt", ending="gelu"), PLAIN, tmp_path)


@pytest.mark.parametrize(
    "product",
    [
        Product(m=16, n=4096, k=4096),
        Product(m=520, n=1000, k=1480, dtype="bfloat16", ending="gelu"),
        Product(m=2048, n=1024, k=512, layout="nt", ending="silu"),
        Product(m=7, n=72, k=24),
    ],
)
def test_random_points(product: Product, tmp_path: Path) -> None:
    space = product_space(product)
    # All that is legal, not only what is drawn.
    for index in np.random.default_rng(0).permutation(len(space.points))[:12]:
        run(product, space.points[int(index)], tmp_path)


@pytest.mark.parametrize("orientation", ["straight", "swapped"])
@pytest.mark.parametrize(("tile_column", "splits"), [(16, 1), (96, 1), (64, 2)])
def test_pairs_of_columns(orientation: str, tile_column: int, splits: int, tmp_path: Path) -> None:
    values = {**PLAIN, "orientation": orientation, "tile_column": tile_column, "splits": splits}
    m, n = (200, 392) if orientation == "swapped" else (392, 200)
    run(Product(m=m, n=n, k=520, layout="nt", ending="gated"), values, tmp_path)
    # Neighbours along the columns are copied 64 at a time.
    aligned = values if orientation == "straight" else {**values, "tile_column": 64}
    run(Product(m=m, n=n, k=520, layout="tt", ending="gated", dtype="bfloat16"), aligned, tmp_path)
