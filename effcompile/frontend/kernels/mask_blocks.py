"""Masks of attention as blocks (``schedules/mask_tiles.py``), from constants of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of
from schedules.attention_decode_problem import MOST_QUERIES
from schedules.mask_tiles import GRAIN, MaskTiles, mask_text, mask_tiles

# Of a mask's description in a workload. Masks without structure keep their booleans.
MOST_TEXT = 1 << 16
# What stands for minus infinity in a mask of floats, if no row holds it alone.
MASKED_BELOW = -1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskBlocks:
    """A mask of blocks as arguments of a function.

    Attributes:
        index: Relax expression, int32, (batch or 1, heads or 1, row blocks or 1, key blocks).
        patterns: Relax expression, int32, (n, GRAIN, 2).
        text: Both, where they are known when compiling; else empty.
    """

    index: Any
    patterns: Any
    text: str = ""


def constant_mask(
    mask: Any, rule: AttentionRule, query: Any, key: Any
) -> tuple[Any, AttentionRule, MaskBlocks | None]:
    """A mask in its simplest form: as part of the rule, as blocks, or as it is.

    It stays as it is if it comes at run time, adds anything but zero and minus infinity, or has no
    structure; also for a few queries, which have kernels of their own.
    """
    values, n_queries, n_keys = constant_array(mask), type_of(query)[0][2], type_of(key)[0][2]
    if values is None or not isinstance(n_queries, int) or not isinstance(n_keys, int):
        return mask, rule, None
    allowed = as_booleans(values)
    if allowed is None:
        return mask, rule, None
    seen = positions_seen(rule, n_queries, n_keys)
    shape = (*allowed.shape[:2], max(allowed.shape[2], 1 if seen is None else n_queries), n_keys)
    pairs = np.broadcast_to(allowed if seen is None else allowed & seen, shape)
    plain = replace(rule, causal=False, offset=0, window_left=-1, window_right=-1)
    simple = window_rule(pairs, plain, n_queries)
    if simple is not None:
        return None, simple, None
    blocks = stored_blocks(mask_tiles(pairs)) if n_queries > MOST_QUERIES else None
    if blocks is None or not blocks.text:
        return mask, rule, None
    return None, plain, blocks


def window_rule(pairs: np.ndarray, plain: AttentionRule, n_queries: int) -> AttentionRule | None:
    """The rule of causality and window that a mask amounts to, ``None`` if it is another one.

    Args:
        pairs: bool, (batch or 1, heads or 1, queries or 1, keys).
        plain: The rule without positions.
        n_queries: Also where all have one row.
    """
    if pairs.all():
        return plain
    if pairs.shape[:3] != (1, 1, n_queries) or not (pairs[0, 0, 0].any() and pairs[0, 0, -1].any()):
        return None
    rows, n_keys = pairs[0, 0], pairs.shape[3]
    offset = n_keys - 1 - int(rows[0, ::-1].argmax())  # the last key of the first query
    first = int(rows[-1].argmax())  # the first key of the last query
    left = n_queries - 1 + offset - first if first else -1
    found = replace(plain, causal=True, offset=offset, window_left=left)
    wanted = positions_seen(found, n_queries, n_keys)
    return found if wanted is not None and np.array_equal(wanted[0, 0], rows) else None


def stored_blocks(tiles: MaskTiles) -> MaskBlocks:
    """Blocks as constants of a module; without their description where that is too long."""
    from tvm import relax

    text = mask_text(tiles)
    return MaskBlocks(
        index=relax.const(tiles.index, "int32"),
        patterns=relax.const(np.ascontiguousarray(tiles.patterns), "int32"),
        text=text if len(text) <= MOST_TEXT else "",
    )


def as_booleans(values: np.ndarray) -> np.ndarray | None:
    """True where a mask lets a key be attended; ``None`` if it does more than that."""
    if values.dtype == bool:
        return values
    wide = values.astype(np.float32)
    allowed = wide == 0
    hidden = np.isneginf(wide)
    if not bool(np.all(allowed | hidden)):
        # Large numbers hide a key only from rows that may attend another.
        hidden = wide <= MASKED_BELOW
        if not bool(np.all(allowed | hidden) and allowed.any(axis=-1).all()):
            return None
    return np.asarray(allowed)


def positions_seen(rule: AttentionRule, n_queries: int, n_keys: int) -> np.ndarray | None:
    """Pairs that causality and windows allow, (1, 1, queries, keys); ``None`` if all are."""
    if not rule.causal and max(rule.window_left, rule.window_right) < 0:
        return None
    position, key = np.arange(n_queries)[:, None] + rule.offset, np.arange(n_keys)
    right = 0 if rule.causal else rule.window_right
    seen = np.ones((n_queries, n_keys), bool)
    if right >= 0:
        seen &= key <= position + right
    if rule.causal and rule.window_right >= 0:
        seen &= key <= position + rule.window_right
    if rule.window_left >= 0:
        seen &= key >= position - rule.window_left
    return seen[None, None]


def in_blocks(index: Any, patterns: Any, place: tuple[Any, ...]) -> Any:
    """Condition under which a query may attend a key; ``place`` is batch, head, query, key."""
    from tvm import tirx

    b, h, i, j = place
    number = index[broadcast_index(index, b, h, i // GRAIN, j // GRAIN)]
    word = patterns[number, i % GRAIN, j % GRAIN // 32]
    return tirx.bitwise_and(word >> (j % 32).astype("int32"), tirx.const(1, "int32")) == 1


def broadcast_index(mask: Any, *index: Any) -> tuple[Any, ...]:
    """An index into a tensor whose extents of one are for all."""
    return tuple(
        0 if _is_one(extent) else position
        for extent, position in zip(mask.shape, index, strict=True)
    )


def _is_one(extent: Any) -> bool:
    return hasattr(extent, "value") and int(extent) == 1
