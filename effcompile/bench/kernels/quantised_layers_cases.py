"""Quantised layers as language models use them: queries, keys and values; gate and up; int8 rows.

The peer is cuBLAS on 16-bit weights that lie side by side, so that it needs one product as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from effcompile.bench.kernels.case import KernelCase, Tensors
from effcompile.bench.kernels.gemv_dequant_cases import (
    Product,
    exact,
    inputs_of,
    matrix_of,
    model_of,
    node_of,
)

TOLERANCE = 6e-2
GATE = Product(bits=3, n_columns=18944, depth=3584)
UP = replace(GATE, seed=8)
QUERIES = Product(bits=3, n_columns=3584, depth=3584)
KEYS = replace(QUERIES, n_columns=512, seed=8)
VALUES = replace(KEYS, seed=9)
INT8_ROWS = Product(bits=4, n_columns=4096, depth=4096, group=4096, rows=16)


def cases() -> list[KernelCase]:
    """The layers of a model of width 3584, and a product of int8 activations."""
    return [
        _case("w3-gate-up-18944x3584-rows1", (GATE, UP), _gate_up_model, _gate_up, _gate_up_peer),
        _case(
            "w3-qkv-4608x3584-rows1", (QUERIES, KEYS, VALUES), _qkv_model, _side_by_side, _qkv_peer
        ),
        replace(
            _case("w4a8-4096x4096-rows16", (INT8_ROWS,), _int8_model, _int8_exact, _int8_peer),
            inputs=_int8_inputs,
        ),
    ]


def _case(
    name: str,
    products: tuple[Product, ...],
    model: Callable[[], Any],
    reference: Callable[[Tensors], Tensors],
    peer: Callable[[Tensors], Callable[[], Any]],
) -> KernelCase:
    first = products[0]
    # All read the same x.
    shared = 2 * first.rows * first.depth * (len(products) - 1)
    return KernelCase(
        name=name,
        family="gemv_dequant",
        model=model,
        inputs=partial(inputs_of, first),
        reference=reference,
        n_bytes=sum(product.n_bytes for product in products) - shared,
        n_flops=sum(2 * one.rows * one.n_columns * one.depth for one in products),
        tolerance=TOLERANCE,
        peers={"cuBLAS 16 bit": peer},
    )


def _gate_up_model() -> Any:
    from onnx import helper

    gate, stored = node_of(GATE, "x", "g")
    up, more = node_of(UP, "x", "u")
    nodes = [
        gate,
        up,
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["g", "s"], ["a"]),
        helper.make_node("Mul", ["a", "u"], ["y"]),
    ]
    return model_of(GATE, nodes, stored | more, {"y": GATE.n_columns})


def _gate_up(inputs: Tensors) -> Tensors:
    import torch

    x = inputs[0].double()
    return [torch.nn.functional.silu(exact(GATE, x)) * exact(UP, x)]


def _gate_up_peer(inputs: Tensors) -> Callable[[], Any]:
    import torch

    matrix = torch.cat([matrix_of(GATE), matrix_of(UP)])

    def layer() -> Any:
        gate, up = torch.nn.functional.linear(inputs[0], matrix).chunk(2, dim=-1)
        return torch.nn.functional.silu(gate) * up

    return layer


def _qkv_model() -> Any:
    nodes: list[Any] = []
    stored: dict[str, np.ndarray] = {}
    for product, name in ((QUERIES, "q"), (KEYS, "k"), (VALUES, "v")):
        node, more = node_of(product, "x", name)
        nodes.append(node)
        stored |= more
    outputs = {"q": QUERIES.n_columns, "k": KEYS.n_columns, "v": VALUES.n_columns}
    return model_of(QUERIES, nodes, stored, outputs)


def _side_by_side(inputs: Tensors) -> Tensors:
    return [exact(product, inputs[0].double()) for product in (QUERIES, KEYS, VALUES)]


def _qkv_peer(inputs: Tensors) -> Callable[[], Any]:
    import torch

    products = (QUERIES, KEYS, VALUES)
    matrix = torch.cat([matrix_of(product) for product in products])
    sizes = [product.n_columns for product in products]
    return lambda: torch.nn.functional.linear(inputs[0], matrix).split(sizes, dim=-1)


def _int8_model() -> Any:
    from onnx import TensorProto, helper

    rows, depth = INT8_ROWS.rows, INT8_ROWS.depth
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.INT8, [rows, depth]),
        helper.make_tensor_value_info("x_scales", TensorProto.FLOAT, [rows, 1]),
    ]
    # Zero points, group index and bias are absent.
    node, stored = node_of(INT8_ROWS, "x", "y", "", "", "", "x_scales")
    return model_of(INT8_ROWS, [node], stored, {"y": INT8_ROWS.n_columns}, inputs)


def _int8_inputs(seed: int) -> list[Any]:
    import torch

    rng = np.random.default_rng(seed)
    x = rng.integers(-127, 128, (INT8_ROWS.rows, INT8_ROWS.depth)).astype(np.int8)
    scales = rng.uniform(0.01, 0.03, (INT8_ROWS.rows, 1)).astype(np.float32)
    return [torch.from_numpy(x).cuda(), torch.from_numpy(scales).cuda()]


def _int8_exact(inputs: Tensors) -> Tensors:
    x, scales = inputs
    return [exact(INT8_ROWS, x.double() * scales.double())]


def _int8_peer(inputs: Tensors) -> Callable[[], Any]:
    import torch

    x, scales = inputs
    matrix, wide = matrix_of(INT8_ROWS), (x * scales).to(torch.bfloat16)
    return lambda: torch.nn.functional.linear(wide, matrix)
