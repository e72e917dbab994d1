"""Norms of heads with what attention does to them before it starts, as the front end joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import onnx

from effcompile.extract import extract
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.target import known_target
from schedules.workload import Workload
from tests.schedules.elementwise_workloads import PAIRS, ROTATE_HALF, TYPES, Step, model_of, pairs

Shape = tuple[int, ...]
Kinds = Mapping[str, tuple[str, Shape]]
HEADS_FIRST = {"perm": [0, 2, 1, 3]}
RMS: dict[str, Any] = {"axis": -1, "epsilon": 1e-6}


def head_norm(model: onnx.ModelProto) -> Workload:
    """The one task of a model, which has to be a joined norm."""
    target = known_target("h200")
    tasks = extract(lower({"main": prepare_model(model)}, target), target).tasks
    (workload,) = [one.task.workload for one in tasks]
    assert workload.op == "head_norm", workload.op
    return workload


def queries(
    dtype: str, batch: int, tokens: int, heads: int, width: int, *, table: str = "float32"
) -> onnx.ModelProto:
    """Of language models: norm, heads before tokens, halves turned; tables for every token."""
    steps: list[Step] = [
        ("Reshape", "p, split -> s"), ("RMSNormalization", "s, w -> n", RMS),
        ("Transpose", "n -> t", HEADS_FIRST), ("Cast", "t -> x", {"to": onnx.TensorProto.FLOAT}),
        *ROTATE_HALF[:-1], ("Add", "xc, ts -> f"), ("Cast", "f -> y", {"to": TYPES[dtype]}),
    ]  # fmt: skip
    angles = (batch, 1, tokens, width)
    inputs = {
        "p": (dtype, (batch, tokens, heads * width)), "w": (dtype, (width,)),
        "cos": (table, angles), "sin": (table, angles),
    }  # fmt: skip
    return _model(
        steps,
        inputs,
        {"split": [batch, tokens, heads, width]},
        dtype,
        (batch, heads, tokens, width),
    )


def _model(
    steps: Sequence[Step],
    inputs: Kinds,
    constants: Mapping[str, Any],
    dtype: str,
    result: Shape,
) -> onnx.ModelProto:
    return model_of(steps, inputs, constants, {"y": (dtype, result)})


def text_and_image(
    dtype: str, tokens: tuple[int, int], heads: int, width: int, *, turned: str
) -> onnx.ModelProto:
    """Of joint attention: ``turned`` is ``both`` (text first) or ``image`` (text last).

    Image tokens lie in the middle third of a product with queries, keys and values.
    """
    text, image = tokens
    rows = text + image if turned == "both" else image
    norms: list[Step] = [
        ("Split", "qkv, thirds -> i0, i1, i2", {"axis": -1}), ("Reshape", "i1, split_i -> si"),
        ("RMSNormalization", "si, wi -> ni", RMS), ("Reshape", "t, split_t -> st"),
        ("RMSNormalization", "st, wt -> nt", RMS),
    ]  # fmt: skip
    turn = pairs("")
    joined: list[Step] = (
        [
            ("Concat", "nt, ni -> joint", {"axis": 1}),
            ("Transpose", "joint -> x", HEADS_FIRST), *turn,
        ]
        if turned == "both"
        else [
            ("Transpose", "ni -> x", HEADS_FIRST),
            *[_renamed(one, "y", "z") for one in turn],
            ("Transpose", "nt -> bt", HEADS_FIRST), ("Concat", "z, bt -> y", {"axis": 2}),
        ]
    )  # fmt: skip
    inputs = {
        "qkv": (dtype, (1, image, 3 * heads * width)), "t": (dtype, (1, text, heads * width)),
        "wi": (dtype, (width,)), "wt": (dtype, (width,)),
        "cos": (dtype, (rows, width // 2)), "sin": (dtype, (rows, width // 2)),
    }  # fmt: skip
    constants = {
        **PAIRS, "thirds": [heads * width] * 3, "shape": [1, heads, rows, width],
        "split_i": [1, image, heads, width], "split_t": [1, text, heads, width],
    }  # fmt: skip
    return _model([*norms, *joined], inputs, constants, dtype, (1, heads, text + image, width))


def _renamed(step: Step, old: str, new: str) -> Step:
    operator, names, *attrs = step
    return (operator, names.replace(f"-> {old}", f"-> {new}"), *attrs)  # type: ignore[return-value]


def side_by_side(dtype: str, batch: int, tokens: int, heads: int, width: int) -> onnx.ModelProto:
    """A layer norm of heads and an activation, heads left beside each other."""
    steps: list[Step] = [
        ("LayerNormalization", "x, w, b -> n", RMS), ("Mul", "n, n -> m"), ("Tanh", "m -> t"),
        ("Reshape", "t, flat -> y"),
    ]  # fmt: skip
    inputs = {
        "x": (dtype, (batch, tokens, heads, width)), "w": (dtype, (width,)), "b": (dtype, (width,)),
    }  # fmt: skip
    flat = [batch, tokens, heads * width]
    return _model(steps, inputs, {"flat": flat}, dtype, tuple(flat))


def gathered_angles(dtype: str, batch: int, tokens: int, heads: int, width: int) -> onnx.ModelProto:
    """ONNX's ``RotaryEmbedding`` with positions behind the norm."""
    steps: list[Step] = [
        ("RMSNormalization", "p, w -> n", RMS), ("Transpose", "n -> x", HEADS_FIRST),
        ("RotaryEmbedding", "x, cos, sin, places -> y", {"interleaved": 1}),
    ]  # fmt: skip
    inputs = {
        "p": (dtype, (batch, tokens, heads, width)), "w": (dtype, (width,)),
        "cos": (dtype, (4 * tokens, width // 2)), "sin": (dtype, (4 * tokens, width // 2)),
        "places": ("int64", (batch, tokens)),
    }  # fmt: skip
    return _model(steps, inputs, {}, dtype, (batch, heads, tokens, width))


def sliced(dtype: str, tokens: int, heads: int, width: int) -> onnx.ModelProto:
    """Heads of the middle third of a product, normed, and nothing behind."""
    steps: list[Step] = [
        ("Split", "qkv, thirds -> q, k, v", {"axis": -1}), ("Reshape", "k, split -> s"),
        ("Transpose", "s -> t", HEADS_FIRST), ("RMSNormalization", "t, w -> y", RMS),
    ]  # fmt: skip
    inputs = {"qkv": (dtype, (1, tokens, 3 * heads * width)), "w": (dtype, (width,))}
    constants = {"thirds": [heads * width] * 3, "split": [1, tokens, heads, width]}
    return _model(steps, inputs, constants, dtype, (1, heads, tokens, width))


def beside_plain_rows(dtype: str, tokens: tuple[int, int], heads: int, width: int) -> Any:
    """Normed rows, with rows that are left as they are behind them."""
    steps: list[Step] = [
        ("RMSNormalization", "a, w -> n", RMS), ("Concat", "n, b -> c", {"axis": 1}),
        ("Transpose", "c -> y", HEADS_FIRST),
    ]  # fmt: skip
    inputs = {
        "a": (dtype, (2, tokens[0], heads, width)), "w": (dtype, (width,)),
        "b": (dtype, (2, tokens[1], heads, width)),
    }  # fmt: skip
    return _model(steps, inputs, {}, dtype, (2, heads, sum(tokens), width))


@cache
def small_workloads() -> dict[str, Workload]:
    """One ragged workload per form."""
    return {
        "halves": head_norm(queries("bfloat16", 2, 13, 3, 64)),
        "halves, float32": head_norm(queries("float32", 1, 7, 5, 32)),
        "pairs, text first": head_norm(text_and_image("float16", (5, 12), 3, 40, turned="both")),
        "pairs of image only": head_norm(
            text_and_image("bfloat16", (5, 12), 3, 64, turned="image")
        ),
        "heads side by side": head_norm(side_by_side("float16", 2, 9, 3, 24)),
        "beside plain rows": head_norm(beside_plain_rows("bfloat16", (5, 4), 3, 32)),
        "slice alone": head_norm(sliced("float16", 11, 3, 48)),
        "gathered angles": head_norm(gathered_angles("bfloat16", 2, 13, 3, 64)),
    }
