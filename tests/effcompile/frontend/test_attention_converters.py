"""Attention operators against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from effcompile.errors import BadModel
from tests.effcompile.lowered_models import (
    assert_as_reference,
    graph_model,
    lowered,
    normal,
    operators,
    run_lowered,
)

# float32 sums of at most 16 products of N(0,1) data, reordered.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def heads(n_query: int = 4, n_key: int = 4, tokens: int = 5, keys: int = 7) -> dict[str, Any]:
    return {
        "q": normal(2, n_query, tokens, 8, seed=1),
        "k": normal(2, n_key, keys, 8, seed=2),
        "v": normal(2, n_key, keys, 6, seed=3),
    }


def check(inputs: dict[str, Any], outputs: list[str], names: list[str], **attrs: Any) -> None:
    """Compare with the ONNX reference implementation, run in float64."""
    opset = 24 if "lengths" in inputs else 23
    node = helper.make_node("Attention", names, outputs, name="attention", **attrs)
    model = graph_model([node], inputs, outputs, opset=opset)
    found = run_lowered(lowered(model), list(inputs.values()))
    wide = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value
        for name, value in inputs.items()
    }
    double = graph_model(
        [node],
        wide,
        outputs,
        opset=opset,
        output_types={name: TensorProto.DOUBLE for name in outputs},
    )
    expected = ReferenceEvaluator(double).run(None, wide)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)


@pytest.mark.parametrize(
    "attrs",
    [{}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0, "is_causal": 1}],
    ids=["plain", "causal", "scale", "softcap"],
)
def test_attention_agrees_with_the_reference(attrs: dict[str, Any]) -> None:
    check(heads(), ["y"], ["q", "k", "v"], **attrs)


def test_grouped_heads_share_keys() -> None:
    check(heads(n_query=6, n_key=2), ["y"], ["q", "k", "v"], is_causal=1)


def test_boolean_mask_with_a_fully_masked_row_gives_zeros() -> None:
    mask = np.random.default_rng(4).random((5, 7)) > 0.4
    mask[2] = False
    check({**heads(), "mask": mask}, ["y"], ["q", "k", "v", "mask"])


def test_float_mask_is_added_per_head() -> None:
    check({**heads(), "mask": normal(2, 1, 5, 7, seed=5)}, ["y"], ["q", "k", "v", "mask"])


def test_flat_inputs_are_split_into_heads() -> None:
    inputs = {
        "q": normal(2, 5, 32, seed=1),
        "k": normal(2, 7, 16, seed=2),
        "v": normal(2, 7, 16, seed=3),
    }
    check(inputs, ["y"], ["q", "k", "v"], q_num_heads=4, kv_num_heads=2)


def test_cache_is_extended_and_returned() -> None:
    inputs = {
        **heads(keys=5),
        "past_k": normal(2, 4, 3, 8, seed=6),
        "past_v": normal(2, 4, 3, 6, seed=7),
    }
    names = ["q", "k", "v", "", "past_k", "past_v"]
    check(inputs, ["y", "present_k", "present_v"], names, is_causal=1)


def test_valid_lengths_mask_the_rest_of_the_cache() -> None:
    inputs = {**heads(), "lengths": np.array([7, 5], dtype=np.int64)}
    names = ["q", "k", "v", "", "", "", "lengths"]
    check(inputs, ["y"], names, is_causal=1)


def test_attention_becomes_one_marked_function() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    assert operators(lowered(graph_model([node], heads(), ["y"]))) == ["attention"]


def test_output_of_the_scores_is_refused_with_the_node_named() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "s"], name="scores")
    with pytest.raises(BadModel, match=r"node scores \(Attention\).*output 3"):
        lowered(graph_model([node], heads(), ["y", "s"]))


def plain_attention(q: Any, k: Any, v: Any, allowed: Any, bias: Any = 0.0) -> Any:
    """Attention of float64 arrays (batch, heads, tokens, width); ``allowed`` broadcasts."""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias
    scores = np.where(allowed, scores, -np.inf)
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True) @ v


def split(x: Any, n_heads: int) -> Any:
    batch, tokens, hidden = x.shape
    return x.reshape(batch, tokens, n_heads, hidden // n_heads).swapaxes(1, 2).astype(np.float64)


def join(x: Any) -> Any:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def turned(x: Any, cosines: Any, sines: Any, positions: Any) -> Any:
    """Rotary embedding of halves; ``positions`` of shape (batch, tokens)."""
    c, s = cosines[positions][:, None], sines[positions][:, None]
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * c - second * s, first * s + second * c], axis=-1)


@pytest.mark.parametrize("packed", [False, True], ids=["separate", "packed"])
@pytest.mark.parametrize("window", [-1, 3], ids=["all", "window"])
def test_group_query_attention_extends_ragged_rows(packed: bool, window: int) -> None:
    batch, tokens, n_past, width, n_heads, n_kv = 2, 2, 4, 8, 4, 2
    past_lengths = np.array([4, 2])
    q = normal(batch, tokens, n_heads * width, seed=1)
    k = normal(batch, tokens, n_kv * width, seed=2)
    v = normal(batch, tokens, n_kv * width, seed=3)
    past = [normal(batch, n_kv, n_past, width, seed=seed) for seed in (4, 5)]
    angles = normal(16, width // 2, seed=6)
    inputs = {
        **({"q": np.concatenate([q, k, v], axis=2)} if packed else {"q": q, "k": k, "v": v}),
        "past_k": past[0],
        "past_v": past[1],
        "last": (past_lengths + tokens - 1).astype(np.int32),
        "total": np.array([6], dtype=np.int32),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    names = [*(["q", "", ""] if packed else ["q", "k", "v"]), *list(inputs)[-6:]]
    node = helper.make_node(
        "GroupQueryAttention",
        names,
        ["y", "present_k", "present_v"],
        domain="com.microsoft",
        num_heads=n_heads,
        kv_num_heads=n_kv,
        do_rotary=1,
        local_window_size=window,
    )
    model = graph_model([node], inputs, ["y", "present_k", "present_v"])
    found = run_lowered(lowered(model), list(inputs.values()))

    positions = past_lengths[:, None] + np.arange(tokens)
    queries = turned(split(q, n_heads), inputs["cos"], inputs["sin"], positions)
    keys = turned(split(k, n_kv), inputs["cos"], inputs["sin"], positions)
    present = np.zeros((2, batch, n_kv, n_past + tokens, width))
    for row, length in enumerate(past_lengths):
        for which, new in enumerate((keys, split(v, n_kv))):
            present[which, row, :, :n_past] = past[which][row]
            present[which, row, :, length : length + tokens] = new[row]
    j = np.arange(n_past + tokens)
    allowed = j <= positions[:, None, :, None]
    if window > 0:
        allowed &= j > positions[:, None, :, None] - window
    expected = join(plain_attention(queries, present[0], present[1], allowed))
    np.testing.assert_allclose(found[0], expected, **TOLERANCE)
    np.testing.assert_allclose(found[1], present[0], **TOLERANCE)
    np.testing.assert_allclose(found[2], present[1], **TOLERANCE)


@pytest.mark.parametrize("padding", ["none", "lengths", "mask", "mask and bias"])
def test_multi_head_attention_agrees_with_the_formula(padding: str) -> None:
    q, k, v = (normal(2, 5, 16, seed=seed) for seed in (1, 2, 3))
    bias = normal(48, seed=4)
    inputs = {"q": q, "k": k, "v": v, "b": bias}
    names = ["q", "k", "v", "b"]
    allowed = np.ones((2, 1, 1, 5), dtype=bool)
    added: Any = 0.0
    if padding == "lengths":
        inputs["pad"] = np.array([5, 3], dtype=np.int32)
        allowed[1, ..., 3:] = False
    elif padding != "none":
        inputs["pad"] = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], dtype=np.int32)
        allowed = inputs["pad"].astype(bool)[:, None, None, :]
    if padding != "none":
        names.append("pad")
    if padding == "mask and bias":
        inputs["more"] = normal(1, 4, 5, 5, seed=5)
        names.append("more")
        added = inputs["more"].astype(np.float64)
    node = helper.make_node("MultiHeadAttention", names, ["y"], domain="com.microsoft", num_heads=4)
    found = run_lowered(lowered(graph_model([node], inputs, ["y"])), list(inputs.values()))
    parts = [split(x + bias[i * 16 : (i + 1) * 16], 4) for i, x in enumerate((q, k, v))]
    expected = join(plain_attention(*parts, allowed, added))
    np.testing.assert_allclose(found[0], expected, **TOLERANCE)


def test_multi_head_attention_reads_packed_projections() -> None:
    packed = normal(2, 5, 4, 3, 8, seed=1)
    node = helper.make_node("MultiHeadAttention", ["x"], ["y"], domain="com.microsoft", num_heads=4)
    found = run_lowered(lowered(graph_model([node], {"x": packed}, ["y"])), [packed])
    q, k, v = (packed[:, :, :, i].swapaxes(1, 2).astype(np.float64) for i in range(3))
    expected = join(plain_attention(q, k, v, np.ones((1, 1, 1, 5), dtype=bool)))
    np.testing.assert_allclose(found[0], expected, **TOLERANCE)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("partial", [0, 4])
def test_rotary_embedding_agrees_with_the_reference(interleaved: int, partial: int) -> None:
    n_turned = partial or 8
    inputs = {
        "x": normal(2, 3, 5, 8, seed=1),
        "cos": normal(16, n_turned // 2, seed=2),
        "sin": normal(16, n_turned // 2, seed=3),
        "positions": np.array([[0, 1, 2, 3, 4], [7, 8, 9, 3, 1]], dtype=np.int64),
    }
    node = helper.make_node(
        "RotaryEmbedding",
        list(inputs),
        ["y"],
        interleaved=interleaved,
        rotary_embedding_dim=partial,
    )
    assert_as_reference(graph_model([node], inputs, ["y"]), inputs)


def test_rotary_embedding_without_positions_reads_caches_per_token() -> None:
    inputs = {
        "x": normal(2, 5, 24, seed=1),
        "cos": normal(2, 5, 4, seed=2),
        "sin": normal(2, 5, 4, seed=3),
    }
    node = helper.make_node("RotaryEmbedding", list(inputs), ["y"], num_heads=3)
    assert_as_reference(graph_model([node], inputs, ["y"]), inputs)


def test_contrib_rotary_embedding_starts_at_one_position() -> None:
    inputs = {
        "x": normal(2, 5, 24, seed=1),
        "start": np.array([3], dtype=np.int64),
        "cos": normal(16, 4, seed=2),
        "sin": normal(16, 4, seed=3),
    }
    node = helper.make_node("RotaryEmbedding", list(inputs), ["y"], domain="com.microsoft")
    found = run_lowered(lowered(graph_model([node], inputs, ["y"])), list(inputs.values()))
    positions = np.tile(3 + np.arange(5), (2, 1))
    expected = join(turned(split(inputs["x"], 3), inputs["cos"], inputs["sin"], positions))
    np.testing.assert_allclose(found[0], expected, **TOLERANCE)
