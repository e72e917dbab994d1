"""Matrix products of every layout as workloads, and building one point of their space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules import _tvm
from schedules.knobs import KnobSpace, Value
from schedules.matmul import MatmulSpace, matmul_space
from schedules.programs import workload_of
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.building import built


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """``out[b, i, j] = ending(sum_k a[b, i, k] b[b, k, j])``.

    Attributes:
        m: Rows.
        n: Columns.
        k: Terms.
        layout: Of both operands: ``n`` as above, ``t`` with the last two axes exchanged.
        dtype: Of operands and output.
        batch: Independent products; 0 for matrices without a batch axis.
        ending: ``cast``, ``float32``, ``gelu`` (bias, residual, GELU), ``silu`` or ``gated``: half
            as many columns, each of them SiLU of one of the product times the next.
        shared_b: Whether all batches use the same right operand.
    """

    m: int
    n: int
    k: int
    layout: str = "nn"
    dtype: str = "float16"
    batch: int = 0
    ending: str = "cast"
    shared_b: bool = False

    def shapes(self) -> list[tuple[int, ...]]:
        """Inputs in order."""
        lead = (self.batch,) if self.batch else ()
        a = (self.k, self.m) if self.layout[0] == "t" else (self.m, self.k)
        b = (self.n, self.k) if self.layout[1] == "t" else (self.k, self.n)
        shapes = [(*lead, *a), b if self.shared_b else (*lead, *b)]
        if self.ending == "gelu":
            shapes += [(self.n,), (*lead, self.m, self.n)]
        return shapes


def product_workload(product: Product) -> Workload:
    """The program that fusion would make of a product."""
    _tvm.load()
    from tvm import te, topi

    a, b, *more = [
        te.placeholder(shape, product.dtype, name=f"X{i}")
        for i, shape in enumerate(product.shapes())
    ]
    lead = (product.batch,) if product.batch else ()
    axis = te.reduce_axis((0, product.k), name="k")

    def element(*index: Any) -> Any:
        *outer, i, j = index
        own = [] if product.shared_b else outer
        left = a[(*outer, axis, i)] if product.layout[0] == "t" else a[(*outer, i, axis)]
        right = b[(*own, j, axis)] if product.layout[1] == "t" else b[(*own, axis, j)]
        return te.sum(left.astype("float32") * right.astype("float32"), axis=axis)

    out = te.compute((*lead, product.m, product.n), element, name="product")
    if product.ending == "gated":
        out = gated(out, product.dtype)
    elif product.ending != "float32":
        out = topi.cast(out, product.dtype)
    if product.ending == "gelu":
        out = topi.add(topi.add(out, more[0]), more[1])
        half = topi.cast(topi.erf(topi.cast(out * 0.7071067811865476, "float32")), product.dtype)
        out = out * (half * 0.5 + 0.5)
    if product.ending == "silu":
        out = out * topi.sigmoid(out)
    return workload_of(te.create_prim_func([a, b, *more, out]), name=repr(product))


def gated(out: Any, dtype: str) -> Any:
    """SiLU of every even column times the odd one behind it."""
    from tvm import te

    def element(*index: Any) -> Any:
        *outer, j = index
        gate, up = out(*outer, 2 * j), out(*outer, 2 * j + 1)
        return (gate * te.sigmoid(gate) * up).astype(dtype)

    return te.compute((*out.shape[:-1], out.shape[-1] // 2), element, name="gated")


def product_space(product: Product, target: Target | None = None) -> MatmulSpace:
    """The family's space of a product."""
    task = Task(workload=product_workload(product), target=target or known_target("h200"))
    space = matmul_space(task)
    assert isinstance(space, MatmulSpace), product
    return space


def built_point(
    space: KnobSpace,
    values: Mapping[str, Value],
    folder: Path,
    target: Target | None = None,
    *,
    decoded: bool = False,
) -> Any:
    """One point as a library; see :func:`built`."""
    program = space.program_module(values)
    return built(program, target or known_target("h200"), folder, decoded=decoded)
