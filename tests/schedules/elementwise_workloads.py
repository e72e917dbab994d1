"""Workloads without sums, as the front end makes them of ONNX models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from effcompile.extract import extract
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.workload import Workload
from tests.schedules.merge_workloads import CPU

TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
}  # fmt: skip
Shape = tuple[int, ...]
Step = tuple[str, str] | tuple[str, str, Mapping[str, Any]]
"""Operator, names of inputs and outputs as ``a, b -> c``, attributes."""


def model_of(
    steps: Sequence[Step],
    inputs: Mapping[str, tuple[str, Shape]],
    constants: Mapping[str, Any],
    outputs: Mapping[str, tuple[str, Shape]],
) -> onnx.ModelProto:
    """A graph; constants are int64, or float scalars in the dtype of the first input."""
    nodes = []
    for operator, names, *attrs in steps:
        sources, results = (part.replace(" ", "").split(",") for part in names.split("->"))
        nodes.append(helper.make_node(operator, sources, results, **dict(*attrs)))
    kind = TYPES[next(iter(inputs.values()))[0]]
    stored = [
        helper.make_tensor(name, kind, (), [value])
        if isinstance(value, float)
        else numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in constants.items()
    ]
    given, made = (
        [helper.make_tensor_value_info(n, TYPES[d], s) for n, (d, s) in specs.items()]
        for specs in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "elementwise", given, made, initializer=stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def workload_of(
    steps: Sequence[Step],
    dtype: str,
    result: Shape,
    constants: Mapping[str, Any] | None = None,
    **shapes: Shape,
) -> Workload:
    """The largest task of a graph of floats whose output is called ``y``."""
    inputs = {name: (dtype, shape) for name, shape in shapes.items()}
    return _largest(model_of(steps, inputs, constants or {}, {"y": (dtype, result)}))


def _largest(model: onnx.ModelProto) -> Workload:
    tasks = extract(lower({"main": prepare_model(model)}, CPU), CPU).tasks
    return max((one.task.workload for one in tasks), key=lambda one: prod(one.outputs[0].shape))


SWIGLU: list[Step] = [
    ("Sigmoid", "a -> s"),
    ("Mul", "a, s -> silu"),
    ("Mul", "silu, b -> y"),
]
# Halves turn against each other, with tables for one half.
TURN_HALVES: list[Step] = [
    ("Split", "x -> one, two", {"axis": -1, "num_outputs": 2}),
    ("Mul", "one, cos -> oc"), ("Mul", "two, sin -> ts"), ("Sub", "oc, ts -> first"),
    ("Mul", "two, cos -> tc"), ("Mul", "one, sin -> os"), ("Add", "tc, os -> second"),
    ("Concat", "first, second -> y", {"axis": -1}),
]  # fmt: skip
# The same with tables for both halves, as language models export it.
ROTATE_HALF: list[Step] = [
    ("Split", "x -> one, two", {"axis": -1, "num_outputs": 2}),
    ("Neg", "two -> minus"), ("Concat", "minus, one -> turned", {"axis": -1}),
    ("Mul", "x, cos -> xc"), ("Mul", "turned, sin -> ts"), ("Add", "xc, ts -> y"),
]  # fmt: skip


def pairs(part: str) -> list[Step]:
    """Neighbours turn against each other: ``x<part>`` to ``y<part>``."""
    names = {one: f"{one}{part}" for one in ("x", "cos", "sin", "y", *"abcdefghi")}
    steps: list[Step] = [
        ("Slice", "{x}, zero, end, last, two -> {a}"), ("Slice", "{x}, one, end, last, two -> {b}"),
        ("Mul", "{a}, {cos} -> {c}"), ("Mul", "{b}, {sin} -> {d}"), ("Sub", "{c}, {d} -> {e}"),
        ("Mul", "{b}, {cos} -> {f}"), ("Mul", "{a}, {sin} -> {g}"), ("Add", "{f}, {g} -> {h}"),
        ("Unsqueeze", "{e}, last -> first{i}"), ("Unsqueeze", "{h}, last -> second{i}"),
        ("Concat", "first{i}, second{i} -> {i}", {"axis": -1}),
        ("Reshape", "{i}, shape" + part + " -> {y}"),
    ]  # fmt: skip
    return [(op, text.format(**names), *attrs) for op, text, *attrs in steps]


def axial(dtype: str, heads: Shape) -> Workload:
    """Frame, row and column turn 2, 7 and 7 of 16 parts of every head."""
    *rows, width = heads
    parts = [width * k // 16 for k in (2, 7, 7)]
    halves = [part // 2 for part in parts]
    steps: list[Step] = [
        ("Split", "x, parts -> x0, x1, x2", {"axis": -1}),
        ("Split", "cos, halves -> cos0, cos1, cos2", {"axis": -1}),
        ("Split", "sin, halves -> sin0, sin1, sin2", {"axis": -1}),
        *(step for part in "012" for step in pairs(part)),
        ("Concat", "y0, y1, y2 -> y", {"axis": -1}),
    ]
    constants = {**PAIRS, "parts": parts, "halves": halves}
    constants |= {f"shape{i}": [*rows, part] for i, part in enumerate(parts)}
    table = (heads[-2], width // 2)
    return workload_of(steps, dtype, heads, constants, x=heads, cos=table, sin=table)


PAIRS = {"zero": [0], "one": [1], "two": [2], "end": [2**31], "last": [-1]}


def rotary_node(dtype: str, heads: Shape, **attrs: int) -> Workload:
    """ONNX's ``RotaryEmbedding`` with positions."""
    batch, _, tokens, width = heads
    half = (attrs.get("rotary_embedding_dim") or width) // 2
    inputs: dict[str, tuple[str, Shape]] = {
        "x": (dtype, heads),
        "cos": (dtype, (tokens, half)),
        "sin": (dtype, (tokens, half)),
        "places": ("int64", (batch, tokens)),
    }
    steps: list[Step] = [("RotaryEmbedding", "x, cos, sin, places -> y", attrs)]
    return _largest(model_of(steps, inputs, {}, {"y": (dtype, heads)}))


@cache
def small_workloads() -> dict[str, Workload]:
    """One per form."""
    heads, table, half = (2, 3, 70, 64), (70, 64), (70, 32)
    image = (2, 70, 256)
    residual: list[Step] = [
        ("Unsqueeze", "g, one -> gate"), ("Mul", "r, gate -> gated"), ("Add", "x, gated -> y"),
    ]  # fmt: skip
    guidance: list[Step] = [
        ("Sub", "b, a -> d"), ("Mul", "d, three -> w"), ("Add", "a, w -> v"),
        ("Mul", "v, step -> s"), ("Sub", "x, s -> y"),
    ]  # fmt: skip
    halves: list[Step] = [
        ("Split", "h -> a, b", {"axis": -1, "num_outputs": 2}), *SWIGLU
    ]  # fmt: skip
    joined: list[Step] = [
        ("Transpose", "x -> t", {"perm": [0, 2, 1, 3]}), ("Reshape", "t, shape -> f"),
        ("Add", "f, f -> y"),
    ]  # fmt: skip
    repeated: list[Step] = [
        ("Unsqueeze", "x, axes -> u"), ("Expand", "u, wide -> w"), ("Reshape", "w, shape -> y"),
    ]  # fmt: skip
    odd = (33, 7, 151)
    turned: dict[str, Any] = {"x": heads, "cos": half, "sin": half}
    return {
        "swiglu": workload_of(SWIGLU, "bfloat16", (70, 250), a=(70, 250), b=(70, 250)),
        "swiglu of halves": workload_of(halves, "float16", (140, 128), h=(140, 256)),
        "gelu": workload_of([("Gelu", "x -> y")], "float16", (2, 33, 300), x=(2, 33, 300)),
        "gelu, tanh": workload_of(
            [("Gelu", "x -> y", {"approximate": "tanh"})], "bfloat16", (65, 601), x=(65, 601)
        ),
        "gated residual": workload_of(
            residual, "bfloat16", image, {"one": [1]}, x=image, r=image, g=(2, 256)
        ),
        "guidance": workload_of(
            guidance, "float32", (3, 77, 64), {"three": 3.0, "step": 0.04},
            x=(3, 77, 64), a=(3, 77, 64), b=(3, 77, 64),
        ),
        "bias and relu": workload_of(
            [("Add", "x, b -> s"), ("Relu", "s -> y")], "float32", (130, 260),
            x=(130, 260), b=(260,),
        ),
        "odd": workload_of(
            [("Mul", "x, w -> m"), ("Tanh", "m -> y")], "float16", odd, x=odd, w=odd
        ),
        "heads side by side": workload_of(
            joined, "bfloat16", (2, 70, 320), {"shape": [2, 70, 320]}, x=(2, 5, 70, 64)
        ),
        "nearest frames": workload_of(
            repeated, "float16", (16, 48, 64),
            {"axes": [2, 4], "wide": [16, 24, 2, 32, 2], "shape": [16, 48, 64]}, x=(16, 24, 32),
        ),
        "padding": workload_of(
            [("Pad", "x, pads -> y")], "float32", (8, 35, 48), {"pads": [0, 1, 8, 0, 2, 8]},
            x=(8, 32, 32),
        ),
        "rope of halves": workload_of(TURN_HALVES, "bfloat16", heads, **turned),
        "rope, whole tables": workload_of(
            ROTATE_HALF, "float16", heads, x=heads, cos=table, sin=table
        ),
        "rope of pairs": workload_of(
            pairs(""), "float32", heads, {**PAIRS, "shape": list(heads)}, **turned
        ),
        "rope of three axes": axial("bfloat16", heads),
        "rope node": rotary_node("float16", heads),
        "rope node of pairs, partial": rotary_node(
            "float32", heads, interleaved=1, rotary_embedding_dim=32, num_heads=3
        ),
    }  # fmt: skip
