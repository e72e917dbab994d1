"""Float32 products and attention, and few-rows products, emulated on the CPU against float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules import attention_simt_cuda, matmul_rows_cuda, matmul_simt_cuda
from schedules.attention_simt import AttentionSimtSpace
from schedules.contraction_problem import contraction_of
from schedules.matmul_rows import MatmulRowsSpace
from schedules.matmul_simt import MatmulSimtSpace
from schedules.product_ending import partial_sums
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.cuda_emulation import computed, normal_inputs
from tests.schedules.decode_workloads import Decode
from tests.schedules.emulated_attention import assert_attends
from tests.schedules.masked_workloads import Masked, blocks
from tests.schedules.products import Product, product_workload
from tests.schedules.test_attention_gpu import Shape
from tests.schedules.test_matmul_rows_gpu import PLAIN as ROWS
from tests.schedules.test_matmul_simt_gpu import PLAIN as SIMT

pytestmark = pytest.mark.timeout(120)


def float32(m: int, n: int, k: int, layout: str = "nn", **more: Any) -> Product:
    return Product(m=m, n=n, k=k, layout=layout, dtype="float32", **more)


PRODUCTS: dict[str, tuple[Product, dict[str, Any]]] = {
    "whole": (float32(32, 64, 32), SIMT),
    "ragged_by_depth": (float32(19, 37, 45, "nt", ending="silu"), SIMT | {"stages": 3}),
    "ragged_by_line": (float32(19, 38, 45, "tn"), SIMT | {"warps_depth": 2}),
    "cluster": (float32(19, 40, 120, batch=2), SIMT | {"cluster": 4, "warps_depth": 2}),
    "split": (float32(19, 40, 70, "tt", ending="silu"), SIMT | {"splits": 2}),
    "one_row": (
        float32(1, 300, 90),
        SIMT | {"tile_row": 1, "tile_column": 256, "thread_row": 1, "cluster": 2},
    ),
    "rows_by_depth": (Product(m=11, n=37, k=136, layout="nt"), ROWS),
    "rows_by_line": (Product(m=3, n=72, k=72, ending="silu"), ROWS | {"in_flight": 2}),
    "rows_cluster": (Product(m=9, n=72, k=200, layout="nt", batch=2), ROWS | {"cluster": 2}),
    "rows_split": (Product(m=1, n=40, k=264), ROWS | {"splits": 4}),
    "rows_gated": (Product(m=3, n=72, k=72, ending="gated"), ROWS | {"in_flight": 2}),
    "rows_gated_split": (Product(m=2, n=40, k=264, ending="gated"), ROWS | {"splits": 4}),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, tmp_path: Path) -> None:
    product, values = PRODUCTS[name]
    task = Task(workload=product_workload(product), target=known_target("h100"))
    problem = contraction_of(task.workload)
    assert problem is not None
    space: Any
    if name.startswith("rows"):
        space, text = MatmulRowsSpace(task, patience=1e9), matmul_rows_cuda
    else:
        space, text = MatmulSimtSpace(task, patience=1e9), matmul_simt_cuda
    assert space.refusal(values) is None, space.refusal(values)
    launches = text.launches(problem, space.schedule(values))
    inputs, partial = normal_inputs(task.workload), partial_sums(problem, values["splits"])
    found = computed(launches, task.workload, inputs, tmp_path, partial)
    tolerance = 1e-5 if product.dtype == "float32" else 1e-2
    np.testing.assert_allclose(
        found, expected(product, inputs), rtol=tolerance, atol=10 * tolerance
    )


def expected(product: Product, inputs: list[np.ndarray]) -> np.ndarray:
    a, b = (one.astype(float) for one in inputs)
    a = a.swapaxes(-1, -2) if product.layout[0] == "t" else a
    b = b.swapaxes(-1, -2) if product.layout[1] == "t" else b
    out = a @ b
    if product.ending == "gated":
        gate, up = out[..., ::2], out[..., 1::2]
        return gate / (1 + np.exp(-gate)) * up
    return out / (1 + np.exp(-out)) if product.ending == "silu" else out


PLAIN = {"rows": 2, "warps_row": 2, "warps_key": 1, "key_tile": 32, "stages": 1}
SHAPES: dict[str, tuple[Shape, dict[str, int]]] = {
    "plain": (Shape(queries=9, keys=45, width=20, dtype="float32"), PLAIN),
    "causal_grouped": (
        Shape(heads=4, queries=37, keys=150, dtype="float32", attrs={"causal": True, "offset": 9}),
        PLAIN | {"rows": 4, "warps_key": 2, "stages": 2},
    ),
    "window": (
        Shape(
            queries=40,
            keys=90,
            width=40,
            dtype="float32",
            attrs={"window_left": 11, "window_right": 3, "offset": -5},
        ),
        PLAIN | {"warps_key": 2, "stages": 1},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_attention(name: str, tmp_path: Path) -> None:
    shape, values = SHAPES[name]
    workload = shape.workload()
    space = AttentionSimtSpace(Task(workload=workload, target=known_target("h100")), patience=1e9)
    assert space.refusal(values) is None, space.refusal(values)
    inputs = normal_inputs(workload)
    launch = attention_simt_cuda.launch(space._whole, space.schedule(values))
    wanted = attended(shape, *(one.astype(float) for one in inputs))
    found = computed([launch], workload, inputs, tmp_path)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


FOUR = PLAIN | {"rows": 4, "warps_key": 2, "stages": 2}
HIDDEN: dict[str, tuple[Decode | Masked, dict[str, int]]] = {
    "bool_mask_and_window": (
        Decode(
            heads=2, kv_heads=2, queries=40, keys=45, width=24, window_left=11, window_right=3,
            offset=-5, mask=((1, 2, 1, 45), "bool"), dtype="float32",
        ),
        FOUR | {"stages": 1},
    ),
    "float_mask_and_softcap": (
        Decode(
            heads=2, kv_heads=1, batch=2, queries=37, keys=90, width=16, softcap=2.0,
            mask=((2, 1, 37, 90), "float32"), dtype="float32",
        ),
        PLAIN,
    ),
    "lengths": (
        Decode(
            heads=1, kv_heads=1, batch=2, queries=20, keys=90, width=32, lengths="int64",
            causal=True, at_end=True, dtype="float32",
        ),
        FOUR,
    ),
    "blocks": (
        Masked(mask=blocks(140, 200, planes=(1, 2)), kv_heads=1, width=16, dtype="float32"),
        FOUR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_attention_under_masks(name: str, tmp_path: Path) -> None:
    shape, values = HIDDEN[name]
    workload = shape.workload()
    space = AttentionSimtSpace(Task(workload=workload, target=known_target("h100")), patience=1e9)
    assert space.refusal(values) is None, space.refusal(values)
    launch = attention_simt_cuda.launch(space._whole, space.schedule(values))
    hides = name == "float_mask_and_softcap"
    assert_attends(launch, shape, workload, tmp_path, tolerance=2e-5, hides_rows=hides)


def attended(shape: Shape, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    group = shape.heads // shape.kv_heads
    scores = q @ np.repeat(k, group, axis=1).swapaxes(-1, -2) * shape.width**-0.5
    position = np.arange(shape.queries)[:, None] + shape.attrs.get("offset", 0)
    keys = np.arange(shape.keys)[None, :]
    left = shape.attrs.get("window_left", shape.keys + 99)
    right = 0 if shape.attrs.get("causal") else shape.attrs.get("window_right", shape.keys + 99)
    raised = np.exp(scores) * ((keys >= position - left) & (keys <= position + right))
    total = raised.sum(-1, keepdims=True)
    return raised / np.where(total > 0, total, 1) @ np.repeat(v, group, axis=1)
