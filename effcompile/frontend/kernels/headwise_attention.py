"""Attention in which every head is full, an arrow or skipped.

Meaning: see ``schedules/headwise_problem.py``. Layout (batch, heads, tokens, head width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effcompile.frontend.kernels.marking import marked_call, type_of
from effcompile.frontend.kernels.scaled_dot_product import scaled_dot_product
from schedules.headwise_problem import ARROW, GRAIN, OP, SKIP, Mode, modes_text, text_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadwiseRule:
    """Tokens and scale.

    Attributes:
        text_tokens: The other tokens are the image's.
        text_first: Whether text comes before the image.
        scale: Multiplies the scores; ``None`` means one over the root of the head width.
        modes: Kind and half-width of every head where they are known when compiling, else empty.
    """

    text_tokens: int
    text_first: bool
    scale: float | None
    modes: tuple[Mode, ...]


def headwise_attention_call(
    builder: Any,
    query: Any,
    key: Any,
    value: Any,
    modes: Any,
    *,
    rule: HeadwiseRule,
    cache: Any = None,
) -> Any:
    """Head-wise attention as one function.

    Args:
        builder: The ``relax.BlockBuilder`` of the module.
        query: Shape (batch, query heads, tokens, width).
        key: Shape (batch, key heads, tokens, width).
        value: Shape (batch, key heads, tokens, value width).
        modes: int32, shape (query heads, 2): kind (0 full, 1 arrow, 2 skip), half-width in tokens.
        rule: Tokens, order, scale.
        cache: Rows of skipped heads, shape and dtype of the result; ``None`` gives zeros.

    Returns:
        Shape (batch, query heads, tokens, value width), dtype of ``query``.
    """
    shape = type_of(query)[0]
    image_tokens = shape[2] - rule.text_tokens
    scale = float(shape[3]) ** -0.5 if rule.scale is None else rule.scale
    text = text_blocks(image_tokens, rule.text_tokens, text_first=rule.text_first)

    def definition(q: Any, k: Any, v: Any, of_head: Any, *rest: Any) -> Any:
        return _headwise((q, k, v), of_head, rest[0] if rest else None, scale, text)

    attrs = {
        "layout": "BHSD",
        "scale": scale,
        "image_tokens": image_tokens,
        "text_tokens": rule.text_tokens,
        "text_first": rule.text_first,
        "modes": modes_text(rule.modes),
    }
    inputs = [query, key, value, modes, *([] if cache is None else [cache])]
    return marked_call(builder, definition, inputs, op=OP, attrs=attrs)


def _sees(modes: Any, text: range, h: Any, i: Any, j: Any) -> Any:
    """Whether token ``i`` of head ``h`` attends token ``j``; ``text`` are the blocks of text."""
    from tvm import tirx

    row, key = i // GRAIN, j // GRAIN
    reach = (modes[h, 1].astype("int64") + (GRAIN - 1)) // GRAIN
    near = tirx.all(key - row <= reach, row - key <= reach)
    of_text = [tirx.all(x >= text.start, x < text.stop) for x in (row, key)]
    seen = tirx.any(modes[h, 0] != ARROW, near, *of_text)
    return tirx.all(modes[h, 0] != SKIP, seen)


def _headwise(qkv: tuple[Any, Any, Any], modes: Any, cache: Any, scale: float, text: range) -> Any:
    from tvm import te, tirx

    mixed = scaled_dot_product(
        qkv,
        score=lambda product, _: product * tirx.const(scale, "float32"),
        allowed=lambda index: _sees(modes, text, *index[1:]),
        name="headwise",
    )

    def result(b: Any, h: Any, i: Any, e: Any) -> Any:
        made = mixed[b, h, i, e].astype(qkv[0].dtype)
        if cache is None:
            return made
        return tirx.if_then_else(modes[h, 0] == SKIP, cache[b, h, i, e], made)

    return te.compute(mixed.shape, result, name="headwise_attention")
