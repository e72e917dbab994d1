"""Attention and products by tensor cores of warps, emulated on the CPU against float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schedules import attention_mma_cuda, matmul_mma_cuda
from schedules.attention_mma import AttentionMmaSpace
from schedules.matmul_mma import MatmulMmaSpace
from schedules.product_ending import partial_sums
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.cuda_emulation import computed, normal_inputs
from tests.schedules.decode_workloads import Decode
from tests.schedules.emulated_attention import assert_attends
from tests.schedules.masked_workloads import Masked, blocks, frames, packed
from tests.schedules.products import Product, product_workload
from tests.schedules.test_simt_emulated import expected

pytestmark = pytest.mark.timeout(120)

PLAIN = {"warps": 2, "row_tiles": 1, "key_tile": 32, "stages": 1, "kept": 0, "longest_first": 0}
DEEP = PLAIN | {"stages": 2, "kept": 1}
TALL = PLAIN | {"warps": 1, "row_tiles": 2, "key_tile": 16, "stages": 3}
SHAPES: dict[str, tuple[Decode | Masked, dict[str, int]]] = {
    "ragged": (
        Decode(heads=1, kv_heads=1, queries=37, keys=77, width=72, value_width=40), DEEP
    ),
    "causal_with_empty_rows": (
        Decode(heads=2, kv_heads=1, queries=40, keys=30, width=32, causal=True, offset=-8),
        PLAIN | {"longest_first": 1, "kept": 1, "key_tile": 16},
    ),
    "window_and_bool_mask": (
        Decode(
            heads=2, kv_heads=2, queries=40, keys=45, width=24, window_left=11, window_right=3,
            offset=-5, mask=((1, 2, 1, 45), "bool"),
        ),
        DEEP | {"key_tile": 16},
    ),
    "lengths_and_softcap": (
        Decode(
            heads=1, kv_heads=1, batch=2, queries=20, keys=90, width=32, lengths="int32",
            causal=True, at_end=True, softcap=2.0, dtype="bfloat16",
        ),
        DEEP,
    ),
    "float_mask": (
        Decode(
            heads=1, kv_heads=1, batch=2, queries=37, keys=90, width=16,
            mask=((2, 1, 37, 90), "float32"),
        ),
        TALL,
    ),
    "float_mask_and_softcap": (
        Decode(
            heads=2, kv_heads=2, batch=1, queries=37, keys=91, width=16, softcap=3.0,
            mask=((1, 2, 37, 91), "float16"),
        ),
        TALL,
    ),
    "blocks": (
        Masked(mask=blocks(140, 200, planes=(1, 2)), kv_heads=1, width=16),
        DEEP | {"key_tile": 64},
    ),
    "blocks_for_all_rows": (
        Masked(mask=blocks(64, 140)[:, :, :1], queries=70, width=16, kv_heads=1),
        TALL,
    ),
    "packed": (
        Masked(mask=packed([30, 3, 62, 15]), form="packed", starts=(0, 30, 33, 95), width=16),
        DEEP | {"key_tile": 16},
    ),
    "parts_of_blocks": (Masked(mask=frames([30, 50, 57]), heads=1, width=16), TALL),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_attention(name: str, tmp_path: Path) -> None:
    shape, values = SHAPES[name]
    workload = shape.workload()
    space = AttentionMmaSpace(Task(workload=workload, target=known_target("a100")), patience=1e9)
    assert space.refusal(values) is None, space.refusal(values)
    launch = attention_mma_cuda.launch(space._problem, space.schedule(values))
    tolerance, hides = (2e-3 if shape.dtype == "float16" else 1.5e-2), name == "float_mask"
    assert_attends(launch, shape, workload, tmp_path, tolerance=tolerance, hides_rows=hides)


SQUARE = {
    "tile_row": 32,
    "tile_column": 64,
    "warps_row": 2,
    "warps_column": 2,
    "step": 32,
    "stages": 2,
    "splits": 1,
}
WIDE = SQUARE | {"tile_row": 64, "warps_row": 1, "step": 64, "stages": 3}
PRODUCTS: dict[str, tuple[Product, dict[str, int]]] = {
    "by_depth": (Product(m=64, n=64, k=200, layout="nt", ending="silu"), WIDE),
    "by_line": (Product(m=40, n=72, k=130, layout="tn"), WIDE),
    "pairs": (Product(m=34, n=50, k=70, batch=2, layout="tt", dtype="bfloat16"), SQUARE),
    "single_elements": (Product(m=31, n=51, k=45, layout="tn", ending="silu"), SQUARE),
    "split": (Product(m=33, n=40, k=136, ending="silu"), SQUARE | {"splits": 2}),
    "gated": (Product(m=33, n=72, k=72, ending="gated"), SQUARE),
    "gated_split": (Product(m=20, n=40, k=136, ending="gated"), SQUARE | {"splits": 2}),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, tmp_path: Path) -> None:
    product, values = PRODUCTS[name]
    task = Task(workload=product_workload(product), target=known_target("a100"))
    space = MatmulMmaSpace(task, patience=1e9)
    assert space.refusal(values) is None, space.refusal(values)
    inputs, partial = normal_inputs(task.workload), partial_sums(space._problem, values["splits"])
    launches = matmul_mma_cuda.launches(space._problem, space.schedule(values))
    found = computed(launches, task.workload, inputs, tmp_path, partial)
    tolerance = 1e-2 if product.dtype == "float16" else 5e-2
    np.testing.assert_allclose(found, expected(product, inputs), rtol=tolerance, atol=tolerance)
