"""Programs cut down to some rows give these rows of the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedules import _tvm, expected
from schedules.inputs import make_data, make_inputs
from schedules.program_reference import program_references, run_program
from schedules.programs import function_of
from schedules.row_programs import RowProgram
from schedules.workload import Workload

Describe = Callable[..., Workload]
ROWS = 150


def te_modules() -> Any:
    _tvm.load()
    from tvm import te, topi

    return te, topi


def gated(a: Any, b: Any, c: Any) -> Any:
    """A broadcast of something that has no rows of its own."""
    _, topi = te_modules()
    return topi.add(a, topi.multiply(b, topi.expand_dims(c, axis=1)))


def normed(a: Any, b: Any) -> Any:
    """Statistics of a row, and a divisor made of them."""
    te, _ = te_modules()
    k = te.reduce_axis((0, a.shape[1]), "k")
    total = te.compute((a.shape[0],), lambda i: te.sum(a[i, k] * a[i, k], axis=k), "total")
    scale = te.compute((a.shape[0],), lambda i: te.rsqrt(total[i] + 1), "scale")
    return te.compute(a.shape, lambda i, j: a[i, j] * scale[i] * b[j] / (total[i] + 2), "normed")


def rotated(a: Any, b: Any) -> Any:
    """Halves of a row, other shapes of it in between, a table by position."""
    _, topi = te_modules()
    one, two = topi.split(a, 2, axis=-1)
    turned = topi.concatenate([topi.multiply(one, b), topi.tanh(two)], axis=-1)
    batch, n, width = (int(extent) for extent in a.shape)
    paired = topi.reshape(turned, (batch, n, width // 2, 2))
    return topi.reshape(topi.negative(paired), (batch, n, width))


def parts_of_other_rows(a: Any) -> Any:
    """A row needs the one after it."""
    te, _ = te_modules()
    twice = te.compute(a.shape, lambda i, j: a[i, j] * 2, "twice")
    n = int(a.shape[0])
    return te.compute(a.shape, lambda i, j: twice[(i + 1) % n, j], "next")


def cubed(a: Any) -> Any:
    """A power that every number has."""
    te, topi = te_modules()
    return topi.add(a, topi.power(a, te.const(3.0, "float32")))


def roots(a: Any) -> Any:
    te, topi = te_modules()
    return topi.power(topi.abs(a), te.const(-0.5, "float32"))


def sums_of_columns(a: Any) -> Any:
    """Something made of all rows of an input."""
    _, topi = te_modules()
    return topi.subtract(a, topi.sum(a, axis=0, keepdims=True))


def divided_by_elements(a: Any, b: Any) -> Any:
    _, topi = te_modules()
    return topi.divide(topi.tanh(a), b)


def logarithms(a: Any) -> Any:
    _, topi = te_modules()
    return topi.log(topi.abs(a))


CUT: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gated": (
        gated,
        (((3, ROWS, 8), "bfloat16"), ((3, ROWS, 8), "bfloat16"), ((3, 8), "bfloat16")),
    ),
    "normed": (normed, (((ROWS, 40), "float32"), ((40,), "float32"))),
    "rotated": (rotated, (((2, ROWS, 24), "float16"), ((ROWS, 12), "float16"))),
    "cubed": (cubed, (((ROWS, 6), "float32"),)),
    "column sums": (sums_of_columns, (((ROWS, 6), "float32"),)),
}
WHOLE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "other rows": (parts_of_other_rows, (((ROWS, 6), "float32"),)),
    "elements divide": (divided_by_elements, (((ROWS, 6), "float32"), ((ROWS, 6), "float32"))),
    "roots": (roots, (((ROWS, 6), "float32"),)),
    "logarithms": (logarithms, (((ROWS, 6), "float32"),)),
}


@pytest.mark.parametrize("name", CUT)
def test_a_sample_has_the_rows_of_the_whole(
    name: str, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, arguments = CUT[name]
    workload = describe(build, *arguments)
    inputs = make_inputs(workload, seed=0)
    (whole,) = run_program(workload, inputs)
    monkeypatch.setattr(expected, "MOST_ELEMENTS", whole.size // 3)
    (found,) = program_references(workload, inputs)
    assert found.rows is not None
    assert 32 <= len(found.rows) < 0.8 * whole.size / whole.shape[-1]
    np.testing.assert_allclose(found.values, found.known(whole), rtol=1e-12)
    assert found.limits[0] <= whole.min() and whole.max() <= found.limits[1]
    assert found.position(1, whole.shape)[-1] == 1


@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_other_rows_or_may_be_no_number_is_computed_whole(
    name: str, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, arguments = WHOLE[name]
    workload = describe(build, *arguments)
    monkeypatch.setattr(expected, "MOST_ELEMENTS", 100)
    assert RowProgram.of(function_of(workload), n_outputs=1) is None
    assert make_data(workload, seed=0).references[0].is_whole


def test_inputs_of_which_other_rows_are_read_are_kept_whole(describe: Describe) -> None:
    build, arguments = CUT["rotated"]
    program = RowProgram.of(function_of(describe(build, *arguments)), n_outputs=1)
    assert program is not None and program.read_by_row == {0}


def test_large_products_stay_whole(
    matmul: Callable[..., Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    from schedules import program_reference

    monkeypatch.setattr(expected, "MOST_ELEMENTS", 100)
    monkeypatch.setattr(program_reference, "LEAST_PRODUCT_FLOPS", 1.0)
    assert make_data(matmul(ROWS, 16, 8), seed=0).references[0].is_whole
