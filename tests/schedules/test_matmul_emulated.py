"""Products of the Hopper family on the CPU: blocks that share columns, and blocks that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules.contraction_problem import contraction_of
from schedules.knobs import Value
from schedules.matmul_cuda import launches
from schedules.product_ending import partial_sums
from tests.schedules.cuda_emulation import computed, normal_inputs
from tests.schedules.products import Product, product_space
from tests.schedules.test_simt_emulated import expected

PLAIN: dict[str, Value] = {
    "orientation": "straight",
    "tile_row": 64,
    "tile_column": 16,
    "multipliers": 1,
    "stages": 2,
    "blocks_per_core": 1,
    "group": 4,
    "splits": 1,
    "cluster": 1,
    "blocks": "one_per_tile",
}


@pytest.mark.parametrize(
    ("product", "changed"),
    [
        (Product(m=256, n=40, k=200, layout="nt"), {}),
        (Product(m=256, n=40, k=200, layout="nt"), {"cluster": 2}),
        (Product(m=200, n=24, k=328, layout="nt", batch=2), {"cluster": 2, "splits": 2}),
        (
            Product(m=200, n=72, k=712, layout="nt", ending="gated"),
            {
                "tile_row": 128,
                "tile_column": 32,
                "multipliers": 2,
                "cluster": 4,
                "splits": 4,
                "group": 1,
            },
        ),
        (
            Product(m=40, n=200, k=328, layout="nt", dtype="bfloat16"),
            {"orientation": "swapped", "tile_column": 32, "cluster": 2, "splits": 2},
        ),
        (
            Product(m=200, n=136, k=328, layout="nt"),
            {
                "tile_row": 128,
                "tile_column": 128,
                "stages": 3,
                "cluster": 2,
                "splits": 2,
                "group": 1,
            },
        ),
        (Product(m=70, n=40, k=200, layout="nt"), {"splits": 2, "group": 1, "tile_column": 32}),
        (Product(m=70, n=40, k=72, layout="nt", ending="gated"), {"group": 1}),
        (Product(m=70, n=72, k=72, layout="nt", ending="gated"), {"tile_column": 32, "group": 1}),
        (
            Product(m=20, n=200, k=72, layout="nt", ending="gated"),
            {"orientation": "swapped", "tile_row": 64},
        ),
    ],
)
@pytest.mark.timeout(60)
def test_emulated(product: Product, changed: dict[str, Value], tmp_path: Path) -> None:
    space = product_space(product)
    values = {**PLAIN, **changed}
    assert space.refusal(values) is None, space.refusal(values)
    problem = contraction_of(space._workload)
    assert problem is not None
    inputs = normal_inputs(space._workload)
    schedule = space.schedule(values)
    partial = partial_sums(problem, schedule.splits)
    made = launches(problem, schedule)
    found = computed(made, space._workload, inputs, tmp_path, partial)
    np.testing.assert_allclose(found, expected(product, inputs), rtol=5e-3, atol=5e-2)
