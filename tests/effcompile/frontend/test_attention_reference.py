"""The attention that candidates are compared with is the one that the front end defines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import marks_of
from schedules import _tvm, expected
from schedules.inputs import make_inputs
from schedules.program_reference import run_program
from schedules.programs import workload_of
from schedules.reference import compute_reference, references_of
from schedules.workload import Workload

BATCH, HEADS, KEY_HEADS, QUERIES, KEYS, WIDTH, VALUE_WIDTH = 2, 4, 2, 9, 13, 8, 5


def attention(
    rule: AttentionRule, *, mask: tuple[tuple[int, ...], str] | None = None, lengths: bool = False
) -> Workload:
    """The workload that the front end makes of an attention."""
    _tvm.load()
    from tvm import relax

    def argument(name: str, shape: tuple[int, ...], dtype: str = "float16") -> Any:
        return relax.Var(name, relax.TensorType(shape, dtype))

    q = argument("q", (BATCH, HEADS, QUERIES, WIDTH))
    k = argument("k", (BATCH, KEY_HEADS, KEYS, WIDTH))
    v = argument("v", (BATCH, KEY_HEADS, KEYS, VALUE_WIDTH))
    extra = {}
    if mask is not None:
        extra["mask"] = argument("mask", *mask)
    if lengths:
        extra["lengths"] = argument("lengths", (BATCH,), "int32")
    builder = relax.BlockBuilder()
    with builder.function("main", [q, k, v, *extra.values()]):
        builder.emit_func_output(builder.emit(attention_call(builder, q, k, v, rule=rule, **extra)))
    module = builder.get()
    (function,) = [one for name, one in module.functions.items() if name.name_hint != "main"]
    op, attrs = marks_of(function)
    return workload_of(function, name="attention", op=op, attrs=attrs)


RULES = {
    "full": (AttentionRule(), {}),
    "causal": (AttentionRule(causal=True, scale=0.7), {}),
    "causal behind others": (AttentionRule(causal=True, offset=4), {}),
    "nothing for some rows": (AttentionRule(causal=True, offset=-3), {}),
    "window": (AttentionRule(window_left=3, window_right=2, softcap=1.5), {}),
    "added mask": (AttentionRule(), {"mask": ((1, HEADS, 1, KEYS), "float16")}),
    "true mask": (AttentionRule(causal=True), {"mask": ((BATCH, 1, QUERIES, KEYS), "bool")}),
    "lengths": (AttentionRule(), {"lengths": True}),
    "lengths, at the end": (
        AttentionRule(causal=True, at_end=True, window_left=4),
        {"lengths": True, "mask": ((1, 1, QUERIES, KEYS), "float32")},
    ),
}


@pytest.mark.parametrize("name", list(RULES))
def test_the_reference_is_what_the_program_gives(name: str) -> None:
    rule, options = RULES[name]
    workload = attention(rule, **options)
    # Masks of floats are added in float32 by the reference, in float64 by this program.
    is_rounded = "float" in str(options.get("mask"))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if is_rounded else {"rtol": 1e-11, "atol": 1e-12}
    for seed in range(3):
        inputs = make_inputs(workload, seed)
        (wanted,) = run_program(workload, inputs)
        (found,) = compute_reference(workload, inputs)
        np.testing.assert_allclose(found, wanted, **tolerance)


def test_a_sample_holds_rows_of_the_whole_within_its_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workload = attention(AttentionRule(causal=True, offset=-1))
    inputs = make_inputs(workload, 0)
    (whole,) = compute_reference(workload, inputs)
    monkeypatch.setattr(expected, "MOST_FLOPS", 1e4)
    (sampled,) = references_of(workload, inputs)
    assert sampled.rows is not None
    assert 32 <= len(sampled.rows) < BATCH * HEADS * QUERIES
    np.testing.assert_allclose(sampled.values, sampled.known(whole), rtol=1e-13)
    assert sampled.limits[0] <= whole.min() and whole.max() <= sampled.limits[1]


def test_inputs_use_all_valid_lengths() -> None:
    workload = attention(AttentionRule(), lengths=True)
    lengths = np.array([make_inputs(workload, seed)[-1] for seed in range(200)])
    assert lengths.dtype == np.int32
    assert set(lengths[:, 0]) == set(range(1, KEYS + 1))
    assert set(lengths[:, 1]) == {KEYS}


def test_rows_too_long_to_hold_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from schedules.references import attention as module

    workload = attention(AttentionRule(causal=True))
    inputs = make_inputs(workload, 0)
    (wanted,) = compute_reference(workload, inputs)
    monkeypatch.setattr(module, "_MOST_SCORES", 2 * KEYS)
    (found,) = compute_reference(replace(workload, name="again"), inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
