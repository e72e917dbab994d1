"""What a matrix product with an elementwise ending is: where its elements lie, what follows."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.workload import Workload

PAIRED_COLUMNS = 8
"""Columns of a product of pairs are a multiple of this, so that no thread has half of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """Where an element lies: ``batch * b + row * (m or n) + depth * k`` elements from the start.

    Attributes:
        buffer: Name of the input.
        batch: Step of the batch axis; 0 if all batches share the operand.
        row: Step of the operand's own axis.
        depth: Step of the summed axis.
    """

    buffer: str
    batch: int
    row: int
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An element that the ending reads or writes: ``batch * b + m * i + n * j + offset``.

    Attributes:
        buffer: Name of the input or output.
        dtype: Its element type.
        batch: Step of the batch axis.
        m: Step along the rows.
        n: Step along the columns.
        offset: First element.
    """

    buffer: str
    dtype: str
    batch: int
    m: int
    n: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contraction:
    """One product with its ending.

    Attributes:
        batch: Independent products.
        m: Rows of the product.
        n: Columns; neighbours in the output, or in pairs.
        k: Terms of every sum.
        dtype: Element type of both operands.
        a: The operand with the rows.
        b: The operand with the columns.
        out: The output.
        reads: Inputs of the ending, in the order of its arguments ``x0``, ``x1``, ...
        lines: CUDA statements of the ending, in float32, from ``sum``, the arguments and, of pairs,
            the next column's ``other``.
        result: The CUDA expression that is stored.
        each: Columns of the product per element of the output, 1 or 2.
    """

    batch: int
    m: int
    n: int
    k: int
    dtype: str
    a: Operand
    b: Operand
    out: Side
    reads: tuple[Side, ...]
    lines: tuple[str, ...]
    result: str
    each: int = 1

    def is_all_of(self, workload: Workload) -> bool:
        """Whether it reads nothing but inputs of a workload, and writes its output."""
        used = {self.a.buffer, self.b.buffer, *(side.buffer for side in self.reads)}
        names = {spec.name for spec in workload.inputs}
        return self.out.buffer == workload.outputs[0].name and used <= names

    @property
    def elements(self) -> int:
        """Of both operands and of the product, each counted once."""
        batches = [self.batch if operand.batch else 1 for operand in (self.a, self.b)]
        operands = self.k * (self.m * batches[0] + self.n * batches[1])
        return operands + self.m * self.n * self.batch
