"""Softmax over the last axis in integers alone: the exact arithmetic as tensor expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effcompile.frontend.kernels.marking import marked_call, type_of
from schedules.dtypes import FLOATS
from schedules.integer_exponential import POWER_OF_TWO, IntegerExponential, integer_exponential
from schedules.integer_softmax_problem import (
    CODES,
    DEFAULTS,
    DEFERRED,
    INTEGERS,
    OP,
    Widths,
    widths_of,
)
from schedules.workload import Attribute


def integer_softmax_call(builder: Any, x: Any, attrs: Mapping[str, Attribute]) -> Any:
    """Shares of every row as integers.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        x: Scores, shape (..., row): floating point in nats, minus infinity for masked ones, or
            int8 or int32 in steps of the exponential.
        attrs: See ``schedules.integer_softmax_problem.DEFAULTS`` for names and defaults.

    Returns:
        ``codes`` or ``shares``: one tensor of the shape of ``x``. ``deferred``: the exponentials,
        int32, and the sum of each row, int64.

    Raises:
        ValueError: An attribute is out of range, or the dtype of ``x`` is another.
    """
    dtype = type_of(x)[1]
    if dtype not in (*FLOATS, *INTEGERS):
        raise ValueError(f"scores of {dtype}: expected one of {', '.join((*FLOATS, *INTEGERS))}")
    known = {**DEFAULTS, **attrs}
    exponential, widths = integer_exponential(known), widths_of(known)

    def definition(scores: Any) -> Any:
        return _integer_softmax(scores, exponential, widths)

    return marked_call(builder, definition, [x], op=OP, attrs=known)


def _integer_softmax(x: Any, exponential: IntegerExponential, widths: Widths) -> Any:
    from tvm import te, tirx

    *rows, length = x.shape
    k_max, k_sum = (te.reduce_axis((0, length), name) for name in ("k_max", "k_sum"))
    wide = "float32" if str(x.dtype) in FLOATS else "int64"
    largest = te.compute(
        rows, lambda *i: te.max(x(*i, k_max).astype(wide), axis=k_max), name="largest_score"
    )

    def raised(*i: Any) -> Any:
        score = x(*i).astype(wide)
        value = _exponential(_distance(largest(*i[:-1]) - score, exponential, wide), exponential)
        if wide == "int64":
            return value
        return tirx.Select(
            score == tirx.const(float("-inf"), "float32"), tirx.const(0, "int32"), value
        )

    exponentials = te.compute(x.shape, raised, name="integer_exponential")
    total = te.compute(
        rows,
        lambda *i: te.sum(exponentials(*i, k_sum).astype("int64"), axis=k_sum),
        name="exact_sum",
    )
    most = tirx.const((1 << widths.sum_bits) - 1, "int64")
    saturated = te.compute(rows, lambda *i: tirx.min(total(*i), most), name="saturating_sum")
    if widths.output == DEFERRED:
        return [exponentials, saturated]
    return te.compute(
        x.shape,
        lambda *i: _share(exponentials(*i), saturated(*i[:-1]), widths, str(x.dtype)),
        name="integer_share",
    )


def _distance(away: Any, exponential: IntegerExponential, dtype: str) -> Any:
    """The code of a distance of some dtype, int32."""
    from tvm import tirx

    if dtype == "int64":
        most = tirx.const(exponential.largest_code, "int64")
        return tirx.min(away, most).astype("int32")
    near = tirx.min(away, tirx.const(exponential.limit, "float32"))
    return tirx.nearbyint(near * tirx.const(1 / exponential.step, "float32")).astype("int32")


def _exponential(u: Any, exponential: IntegerExponential) -> Any:
    """See ``schedules.integer_exponential``; int32."""
    from tvm import tirx

    if exponential.form == POWER_OF_TWO:
        q = u >> (exponential.octave.bit_length() - 1)
        raised = _looked_up(exponential.fractions, u & (exponential.octave - 1))
    else:
        q = (u * exponential.barrett) >> (2 * exponential.score_bits)
        root = exponential.shift - (u - q * exponential.octave)
        raised = root * root + exponential.offset
    value = (raised << exponential.guard_bits) >> q
    if not exponential.clips_to_zero:
        return value
    return tirx.Select(u == exponential.largest_code, tirx.const(0, "int32"), value)


def _looked_up(table: tuple[int, ...], index: Any) -> Any:
    """An entry of a table whose length is a power of two: a choice by each bit of the index."""
    from tvm import tirx

    if len(table) == 1:
        return tirx.const(table[0], "int32")
    half = len(table) // 2
    low, high = _looked_up(table[:half], index), _looked_up(table[half:], index)
    return tirx.Select((index & half) == 0, low, high)


def _share(raised: Any, total: Any, widths: Widths, dtype: str) -> Any:
    from tvm import tirx

    parts = tirx.truncdiv(
        raised.astype("int64") << widths.output_bits, tirx.max(total, tirx.const(1, "int64"))
    )
    parts = tirx.min(parts, tirx.const((1 << widths.output_bits) - 1, "int64")).astype("int32")
    if widths.output == CODES:
        return parts.astype(widths.code_dtype)
    fraction = parts.astype("float32") * tirx.const(2.0**-widths.output_bits, "float32")
    return fraction.astype(dtype if dtype in FLOATS else "float32")
