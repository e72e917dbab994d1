"""Sums of products are found in programs and computed like the programs themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedules import product_nests, products, program_reference
from schedules.inputs import make_inputs
from schedules.program_reference import run_program
from schedules.workload import Workload

Arrays = list[np.ndarray]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Arrays]:
    """Runs a program with its products found, or not; checks that as many were found."""

    def make(workload: Workload, *, n_products: int) -> Arrays:
        inputs = make_inputs(workload, 0)
        least = 1.0 if n_products else float("inf")
        monkeypatch.setattr(program_reference, "LEAST_PRODUCT_FLOPS", least)
        program_reference._in_steps.cache_clear()
        steps = program_reference._in_steps(workload.program).steps
        names = [getattr(step, "__qualname__", "") for step in steps]
        assert sum("_product_step" in name for name in names) == n_products
        outputs = run_program(workload, inputs)
        program_reference._in_steps.cache_clear()
        return outputs

    return make


def programs() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    from tvm import te, topi

    def sums_of_windows(a: Any, b: Any) -> Any:
        k = te.reduce_axis((0, 5), "k")
        return te.compute((4, 6), lambda i, j: te.sum(a[i * 2 + k + 1] * b[j, k], axis=k), "w")

    def of_integers(a: Any, b: Any) -> Any:
        k = te.reduce_axis((0, 17), "k")
        return te.compute(
            (20, 9), lambda i, j: te.sum(b[k, j] * a[i, k].astype("float32"), axis=k), "p"
        )

    return {
        "matmul, epilogue": (
            lambda a, b: topi.nn.relu(topi.nn.matmul(a, b, out_dtype="float32")),
            (((20, 17), "float16"), ((17, 9), "float16")),
        ),
        "transposed": (
            lambda a, b: topi.nn.matmul(a, b, transpose_b=True),
            (((20, 17), "float32"), ((9, 17), "float32")),
        ),
        "batched": (
            topi.nn.batch_matmul,
            (((3, 8, 17), "float32"), ((3, 9, 17), "float32")),
        ),
        "convolution": (
            lambda a, b: topi.nn.conv2d_nchw(a, b, 2, 1, 1),
            (((2, 6, 11, 9), "float32"), ((8, 6, 3, 3), "float32")),
        ),
        "channels last, dilated": (
            lambda a, b: topi.nn.conv2d_nhwc(a, b, 1, 1, 2),
            (((2, 11, 9, 6), "float16"), ((3, 3, 6, 8), "float16")),
        ),
        "depthwise": (
            lambda a, b: topi.nn.depthwise_conv2d_nchw(a, b, 1, 1, 1),
            (((2, 6, 11, 9), "float32"), ((6, 1, 3, 3), "float32")),
        ),
        "of integers": (
            of_integers,
            (((20, 17), "int8"), ((17, 9), "float32")),
        ),
        "overlapping windows": (sums_of_windows, (((20,), "float32"), ((6, 5), "float32"))),
    }


NAMES = (
    "matmul, epilogue",
    "transposed",
    "batched",
    "convolution",
    "channels last, dilated",
    "depthwise",
    "of integers",
    "overlapping windows",
)


@pytest.mark.parametrize("name", NAMES)
def test_products_give_what_the_program_gives(
    name: str, describe: Callable[..., Workload], run: Callable[..., Arrays]
) -> None:
    from schedules import _tvm

    _tvm.load()
    build, arguments = programs()[name]
    workload = describe(build, *arguments)
    (found,) = run(workload, n_products=1)
    (wanted,) = run(workload, n_products=0)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_operands_too_large_to_copy_are_halved(
    describe: Callable[..., Workload],
    run: Callable[..., Arrays],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from schedules import _tvm

    _tvm.load()
    build, arguments = programs()["convolution"]
    workload = describe(build, *arguments)
    (wanted,) = run(workload, n_products=1)
    n_calls = []
    multiply = products._multiply
    monkeypatch.setattr(products, "_multiply", lambda *views: (n_calls.append(1), multiply(*views)))
    monkeypatch.setattr(products, "MOST_COPIED", 300)
    (found,) = run(workload, n_products=1)
    assert len(n_calls) > 4
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_other_reductions_are_not_taken_for_products(
    describe: Callable[..., Workload], softmax: Callable[..., Workload]
) -> None:
    from tvm import te, topi

    from schedules.programs import function_of

    def squares(a: Any) -> Any:
        k = te.reduce_axis((0, 5), "k")
        return te.compute((4,), lambda i: te.sum(a[i, k] + a[i, k] * a[i, k], axis=k), "w")

    def skewed(a: Any, b: Any) -> Any:
        k = te.reduce_axis((0, 5), "k")
        return te.compute((4,), lambda i: te.sum(a[i * k] * b[i, k], axis=k), "w")

    def largest(a: Any) -> Any:
        return topi.max(a, axis=-1)

    workloads = [
        describe(squares, ((4, 5), "float32")),
        describe(skewed, ((20,), "float32"), ((4, 5), "float32")),
        describe(largest, ((4, 5), "float32")),
        softmax((4, 5)),
    ]
    for workload in workloads:
        body = function_of(workload).body.block.body
        nests = list(body) if hasattr(body, "__len__") or hasattr(body, "seq") else [body]
        assert [product_nests.product_nest(nest) for nest in nests] == [None] * len(nests)
