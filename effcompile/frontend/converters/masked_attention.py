"""``effcompile::FrameCausalAttention``, ``BlockSparseAttention`` and ``PackedAttention``.

All: inputs query, key, value (batch, heads, tokens, width), query heads a multiple of key heads;
attribute ``scale`` (optional); a row that may attend nothing gives zeros.

* ``FrameCausalAttention``: attribute ``frame_lengths``, tokens of every frame of the keys. Queries
  are the last of these tokens, and see keys of their own and of earlier frames.
* ``BlockSparseAttention``: input ``blocks``, bool (batch or 1, query heads or 1, row blocks, key
  blocks), attribute ``block``, its rows and keys, a multiple of 64 (default 64). Blocks that are an
  initialiser are known to the tuner; others may change with every call.
* ``PackedAttention``: input ``starts``, int32 (sequences + 1,), first tokens of sequences that lie
  one after the other, from 0, and the number of tokens at the end; attribute ``causal`` (0 or 1).
  Queries and keys are the same tokens; those of a sequence see each other only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.attention import attention_call
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.mask_blocks import MaskBlocks, stored_blocks
from schedules.mask_tiles import (
    GRAIN,
    blocks_of,
    coarse_patterns,
    coarse_tiles,
    frame_tiles,
    whole_blocks,
)


@converter("FrameCausalAttention", domain="effcompile")
def frame_causal_attention(node: Node) -> Any:
    """The mask is made of the frames' lengths."""
    n_queries, n_keys = _checked_tokens(node)
    lengths = [int(length) for length in node.attrs.get("frame_lengths", ())]
    if min(lengths, default=0) < 1 or sum(lengths) != n_keys or n_queries > n_keys:
        raise ValueError(
            f"frame_lengths are {lengths}: expected positive numbers whose sum is the number of "
            f"keys, {n_keys}, and at most as many queries, found {n_queries}"
        )
    return _masked(node, stored_blocks(frame_tiles(lengths, n_queries)))


@converter("BlockSparseAttention", domain="effcompile")
def block_sparse_attention(node: Node) -> Any:
    """Blocks become those of 64 rows and 64 keys."""
    n_queries, n_keys = _checked_tokens(node)
    blocks, block = node.required(3), int(node.attrs.get("block", GRAIN))
    if block < GRAIN or block % GRAIN:
        raise ValueError(f"block is {block}, expected a multiple of {GRAIN}")
    _check_blocks(type_of(blocks), type_of(node.required(0))[0], (n_queries, n_keys), block)
    stored = constant_array(blocks)
    if stored is not None:
        return _masked(node, stored_blocks(coarse_tiles(stored, n_queries, n_keys, block=block)))
    return _masked(node, _call_blocks(node, blocks, (n_queries, n_keys), block // GRAIN))


@converter("PackedAttention", domain="effcompile")
def packed_attention(node: Node) -> Any:
    """Sequences may begin elsewhere with every call."""
    n_queries, n_keys = _checked_tokens(node)
    starts = node.required(3)
    shape, dtype = type_of(starts)
    if dtype != "int32" or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 2:
        raise ValueError(f"starts must be int32 of shape (sequences + 1,), found {dtype} {shape}")
    if n_queries != n_keys:
        raise ValueError(f"queries and keys must be the same tokens, found {n_queries}, {n_keys}")
    scale = node.attrs.get("scale")
    rule = AttentionRule(
        scale=None if scale is None else float(scale), causal=bool(node.attrs.get("causal", 0))
    )
    query, key, value = (node.required(index) for index in range(3))
    return attention_call(node.builder, query, key, value, rule=rule, starts=starts)


def _checked_tokens(node: Node) -> tuple[int, int]:
    query, key, value = (type_of(node.required(index))[0] for index in range(3))
    shapes = (query, key, value)
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            f"query, key and value must be (batch, heads, tokens, width), found {list(shapes)}"
        )
    if not all(isinstance(extent, int) for shape in shapes for extent in shape):
        raise ValueError(f"its inputs have open dimensions {list(shapes)}: fix them with --shape")
    if key[:3] != value[:3] or query[0] != key[0] or query[1] % key[1] or query[3] != key[3]:
        raise ValueError(
            "keys and values must be the same tokens, and key heads divide query heads: found "
            f"{list(shapes)}"
        )
    scale = node.attrs.get("scale")
    if scale is not None and float(scale) <= 0:
        raise ValueError(f"scale is {scale}, expected a positive number")
    return query[2], key[2]


def _check_blocks(
    found: tuple[list[Any], str], query: list[int], tokens: tuple[int, int], block: int
) -> None:
    rows, keys = (-(-n // block) for n in tokens)
    shape, dtype = found
    fits = len(shape) == 4 and shape[0] in (1, query[0]) and shape[1] in (1, query[1])
    if dtype != "bool" or not fits or list(shape[2:]) != [rows, keys]:
        raise ValueError(
            f"blocks must be bool of shape (1 or {query[0]}, 1 or {query[1]}, {rows}, {keys}), "
            f"found {dtype} {list(shape)}"
        )


def _call_blocks(node: Node, blocks: Any, tokens: tuple[int, int], factor: int) -> MaskBlocks:
    """The index from blocks of the call; patterns do not depend on it."""
    from tvm import relax

    numbers = relax.const(whole_blocks(tokens[1]), "int32")
    fine = node.emit(relax.op.astype(blocks, "int32"))
    for axis, n_tokens in zip((2, 3), tokens, strict=True):
        if factor > 1:
            fine = node.emit(relax.op.repeat(fine, factor, axis))
            fine = node.emit(relax.op.strided_slice(fine, [axis], [0], [blocks_of(n_tokens)]))
    return MaskBlocks(
        index=node.emit(relax.op.multiply(fine, numbers)),
        patterns=relax.const(np.ascontiguousarray(coarse_patterns(tokens[1])), "int32"),
    )


def _masked(node: Node, blocks: MaskBlocks) -> Any:
    query, key, value = (node.required(index) for index in range(3))
    scale = node.attrs.get("scale")
    rule = AttentionRule(scale=None if scale is None else float(scale))
    return attention_call(node.builder, query, key, value, rule=rule, tiles=blocks)
