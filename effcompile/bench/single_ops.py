"""ONNX models of one operator, so that benchmarks go through the same door as users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

_DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def softmax_model(rows: int, columns: int, dtype: str) -> onnx.ModelProto:
    """Softmax over the last axis of a (rows, columns) tensor."""
    shape = [rows, columns]
    return _model(
        helper.make_node("Softmax", ["x"], ["y"], axis=-1), {"x": shape}, {"y": shape}, dtype
    )


def matmul_model(m: int, n: int, k: int, dtype: str) -> onnx.ModelProto:
    """Product of an (m, k) and a (k, n) matrix."""
    return _model(
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        {"a": [m, k], "b": [k, n]},
        {"c": [m, n]},
        dtype,
    )


def attention_model(
    query: Sequence[int], key: Sequence[int], dtype: str, *, causal: bool
) -> onnx.ModelProto:
    """Attention; shapes are (batch, heads, tokens, width), and values have that of the keys."""
    return _model(
        helper.make_node("Attention", ["q", "k", "v"], ["y"], is_causal=int(causal)),
        {"q": list(query), "k": list(key), "v": list(key)},
        {"y": list(query)},
        dtype,
        opset=23,
    )


def headwise_attention_model(
    query: Sequence[int],
    key: Sequence[int],
    dtype: str,
    *,
    modes: Sequence[tuple[int, int]] | None,
    text_tokens: int,
    order: str = "image_first",
    cached: bool = False,
) -> onnx.ModelProto:
    """Head-wise attention; modes are an initialiser, or an input where they are ``None``."""
    inputs = {"q": list(query), "k": list(key), "v": list(key)}
    if cached:
        inputs["cache"] = list(query)
    names = ["q", "k", "v", "modes", *(["cache"] if cached else [])]
    node = helper.make_node(
        "HeadwiseAttention",
        names,
        ["y"],
        domain="effcompile",
        text_tokens=text_tokens,
        order=order,
    )
    model = _model(node, inputs, {"y": list(query)}, dtype)
    shape = [query[1], 2]
    if modes is None:
        value = helper.make_tensor_value_info("modes", TensorProto.INT32, shape)
        model.graph.input.insert(3, value)
        return model
    flat = [int(number) for mode in modes for number in mode]
    model.graph.initializer.append(helper.make_tensor("modes", TensorProto.INT32, shape, flat))
    return model


def conv_model(
    shape: tuple[int, int, int, int], n_filters: int, dtype: str, *, kernel: int, stride: int
) -> onnx.ModelProto:
    """Square convolution of an (n, c, h, w) tensor, padded so that stride alone shrinks it."""
    n, c, height, width = shape
    pad = kernel // 2
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[pad] * 4,
    )
    extents = [(extent + 2 * pad - kernel) // stride + 1 for extent in (height, width)]
    inputs = {"x": list(shape), "w": [n_filters, c, kernel, kernel]}
    return _model(node, inputs, {"y": [n, n_filters, *extents]}, dtype)


def layer_norm_model(rows: int, columns: int, dtype: str) -> onnx.ModelProto:
    """Layer normalisation over the last axis of a (rows, columns) tensor."""
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)
    inputs = {"x": [rows, columns], "scale": [columns], "bias": [columns]}
    return _model(node, inputs, {"y": [rows, columns]}, dtype)


def _model(
    node: Any,
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    dtype: str,
    *,
    opset: int = 20,
) -> onnx.ModelProto:
    def values(specs: dict[str, list[int]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, _DTYPES[dtype], shape)
            for name, shape in specs.items()
        ]

    graph = helper.make_graph([node], node.op_type.lower(), values(inputs), values(outputs))
    domains = [helper.make_opsetid("", opset)]
    if node.domain:
        domains.append(helper.make_opsetid(node.domain, 1))
    return helper.make_model(graph, opset_imports=domains, ir_version=10)
