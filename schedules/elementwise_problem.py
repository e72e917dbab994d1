"""Recognises programs without sums: one expression of inputs per element of the output.

Such programs come out of fusion around activations, residuals, rotary embeddings, concatenations
and gathers. Everything between inputs and output is inlined here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from schedules import _tvm
from schedules.analysis import SPATIAL, leaf_blocks, new_schedule
from schedules.row_space import ELEMENT_BYTES, READ_BYTES
from schedules.tir_parts import loads_of
from schedules.workload import TensorSpec, Workload

INDEX_DTYPES = ("int32", "int64")
MOST_ELEMENTS = 2**31 - 1
MOST_STEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ElementwiseProblem:
    """The output, element by element.

    Attributes:
        shape: Of the output; with one axis of all elements, the last, where that is the same.
        dtype: Of the output; arithmetic is float32.
        axes: One TIR variable per axis of the output.
        expression: TIR, of the axes and of elements of inputs.
        inputs: As the workload has them.
        names: Buffers, inputs first, in the order of the workload.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[Any, ...]
    expression: Any
    inputs: tuple[TensorSpec, ...]
    names: tuple[str, ...]

    @property
    def n_elements(self) -> int:
        """Elements of the output."""
        return prod(self.shape)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of the output."""
        return ELEMENT_BYTES[self.dtype]


def elementwise_problem(workload: Workload) -> ElementwiseProblem | None:
    """The problem behind a workload, ``None`` if it is something else."""
    if workload.op != "generic" or len(workload.outputs) != 1:
        return None
    (result,) = workload.outputs
    specs = (*workload.inputs, result)
    covered = (
        result.dtype in ELEMENT_BYTES
        and bool(result.shape)
        and all(one.dtype in (*READ_BYTES, *INDEX_DTYPES) for one in workload.inputs)
        and all(0 < prod(one.shape) <= MOST_ELEMENTS for one in specs)
    )
    block = _whole(workload.program) if covered else None
    if block is None or not writes_in_order(block, result):
        return None
    is_flat = all(_reads_in_order(one, block, result) for one in loads_of(block.body.value))
    return ElementwiseProblem(
        shape=(*[1] * (len(result.shape) - 1), prod(result.shape)) if is_flat else result.shape,
        dtype=result.dtype,
        axes=tuple(axis.var for axis in block.iter_vars),
        expression=block.body.value,
        inputs=workload.inputs,
        names=tuple(spec.name for spec in specs),
    )


@lru_cache(maxsize=64)
def _whole(program: str) -> Any | None:
    """The one block that a program becomes when everything is inlined, ``None`` if it does not."""
    schedule = new_schedule(_tvm.load().ir.load_json(program))
    blocks = list(leaf_blocks(schedule))
    if len(blocks) > MOST_STEPS or not all(_is_pointwise(schedule.get(one)) for one in blocks):
        return None
    try:
        for block in blocks[:-1]:
            schedule.compute_inline(block)
    except RuntimeError:  # a value that several outputs or nests need
        return None
    return schedule.get(blocks[-1])


def _is_pointwise(block: Any) -> bool:
    is_store = type(block.body).__name__ == "BufferStore"
    return is_store and all(int(axis.iter_type) == SPATIAL for axis in block.iter_vars)


def writes_in_order(block: Any, result: TensorSpec) -> bool:
    """Whether every axis of a block is an axis of the output, in its order."""
    store, axes = block.body, block.iter_vars
    if str(store.buffer.name) != result.name or len(axes) != len(result.shape):
        return False
    return all(
        index.same_as(axis.var) or (extent == 1 and type(index).__name__ == "IntImm")
        for index, axis, extent in zip(store.indices, axes, result.shape, strict=True)
    )


def _reads_in_order(load: Any, block: Any, result: TensorSpec) -> bool:
    """Whether an element of the output needs the same element of an input, or its only one."""
    if tuple(map(int, load.source.shape)) != result.shape:
        return prod(map(int, load.source.shape)) == 1
    return all(
        index.same_as(axis.var) for index, axis in zip(load.indices, block.iter_vars, strict=True)
    )
