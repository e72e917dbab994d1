"""Recognises programs that are one matrix product with an elementwise ending.

Such programs come out of fusion (``matmul, add, gelu``): a contraction block
``C[b, m, n] += A[b, m, k] * B[b, k, n]`` in any layout, followed by blocks that compute
one element of an output from the same element of ``C`` and of other inputs. Loop axes of
one role are folded into one; a program whose axes do not fold is not covered. Blocks that copy
an operand as it is may stand before: a convolution of extent 1 pads its input by nothing, and
is a product. Where an output has half as many columns, each of its elements is made of two
neighbours of ``C``, a gate and what it opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

from schedules.affine import linear
from schedules.contraction import Contraction
from schedules.ending_blocks import EndingBlocks
from schedules.nest_parts import extents_of, require, shape_of
from schedules.product_block import ProductBlock
from schedules.product_reading import around_sum, may_be_product, read_program
from schedules.workload import Workload


def contraction_of(workload: Workload) -> Contraction | None:
    """The product behind a generic workload, ``None`` if it is something else."""
    found = _cached(workload.program) if may_be_product(workload) else None
    return found if found is not None and found.is_all_of(workload) else None


@lru_cache(maxsize=64)
def _cached(program: str) -> Contraction | None:
    return read_program(program, _recognised)


def _recognised(blocks: Sequence[Any]) -> Contraction:
    copies, block, behind = around_sum(blocks)
    product = ProductBlock(block, dict(map(_copy, copies)))
    ending = EndingBlocks(product, behind)
    return Contraction(
        batch=product.extent("batch"),
        m=product.extent("m"),
        n=product.extent("n"),
        k=product.extent("k"),
        dtype=product.dtype,
        a=product.operand(product.a, "m"),
        b=product.operand(product.b, "n"),
        out=ending.out,
        reads=tuple(ending.reads),
        lines=tuple(ending.lines),
        result=ending.result,
        each=ending.each,
    )


def _copy(block: Any) -> tuple[str, str]:
    """The buffer that a block fills, and the one of which it is a copy."""
    store = block.body
    require(type(store).__name__ == "BufferStore" and type(store.value).__name__ == "TensorLoad")
    load, extents = store.value, extents_of(block)
    require(shape_of(store.buffer) == shape_of(load.source))
    require(str(store.buffer.dtype) == str(load.source.dtype))
    written = linear(shape_of(store.buffer), store.indices, extents)
    require(written == linear(shape_of(load.source), load.indices, extents) and written[1] == 0)
    require(prod(extents.values()) == prod(shape_of(store.buffer)))
    return str(store.buffer.name), str(load.source.name)
