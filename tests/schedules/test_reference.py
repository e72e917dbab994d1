"""References, inputs and tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedules import _tvm
from schedules.coordinates import largest_coordinate
from schedules.counts import flops_of, unique_bytes_of
from schedules.inputs import make_inputs
from schedules.program_reference import raise_floats
from schedules.reference import Tolerance, compare, compute_reference, tolerance_of
from schedules.workload import Workload

EXACT = Tolerance(rtol=0.0, atol=0.0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_reference_is_the_float64_product(dtype: str, matmul: Callable[..., Workload]) -> None:
    workload = matmul(30, 20, 50, dtype)
    a, b = make_inputs(workload, seed=3)
    (reference,) = compute_reference(workload, [a, b])
    assert reference.dtype == np.float64
    np.testing.assert_allclose(reference, a.astype(np.float64) @ b.astype(np.float64), rtol=1e-12)


def test_softmax_reference_sums_to_one(softmax: Callable[..., Workload]) -> None:
    workload = softmax((5, 33), scale=2.0)
    (x,) = make_inputs(workload, seed=0)
    (reference,) = compute_reference(workload, [x])
    np.testing.assert_allclose(reference.sum(axis=-1), 1.0, rtol=1e-14)
    ratio = np.exp(2.0 * (x[0, 1].astype(np.float64) - x[0, 0]))
    np.testing.assert_allclose(reference[0, 1] / reference[0, 0], ratio, rtol=1e-12)


def test_inputs_repeat_with_their_seed(matmul: Callable[..., Workload]) -> None:
    workload = matmul(8, 8, 8, "bfloat16")
    first, again, other = (make_inputs(workload, seed=s)[0] for s in (1, 1, 2))
    assert first.dtype.name == "bfloat16"
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_roots_get_positive_data(describe: Callable[..., Workload]) -> None:
    from tvm import topi

    def root(a: Any) -> Any:
        return topi.rsqrt(a)

    workload = describe(root, ((64,), "float32"))
    (x,) = make_inputs(workload, seed=0)
    assert x.min() >= 0.5
    assert x.max() <= 1.5
    assert np.isfinite(compute_reference(workload, [x])[0]).all()


def test_indices_stay_inside_every_extent(describe: Callable[..., Workload]) -> None:
    from tvm import topi

    def take(a: Any, indices: Any) -> Any:
        return topi.take(a, indices, axis=0, mode="fast")

    workload = describe(take, ((3, 8), "float32"), ((50,), "int64"))
    table, indices = make_inputs(workload, seed=0)
    assert indices.min() >= 0
    assert indices.max() <= 2
    np.testing.assert_array_equal(compute_reference(workload, [table, indices])[0], table[indices])


def test_tolerance_follows_dtype_and_length(matmul: Callable[..., Workload]) -> None:
    short, long = tolerance_of(matmul(8, 8, 16)), tolerance_of(matmul(8, 8, 1024))
    half = tolerance_of(matmul(8, 8, 16, "float16"))
    assert short.atol < long.atol < 1e-4
    assert short.rtol < half.rtol < 1e-2


def test_right_result_passes() -> None:
    reference = np.array([1.0, -2.0, 3.0])
    nearly = (reference * (1 + 1e-7)).astype(np.float32)
    assert compare(nearly, reference, Tolerance(rtol=1e-6, atol=0.0)) is None


def test_worst_element_is_named() -> None:
    actual = np.array([[1.0, 2.0], [3.0, 9.0]])
    message = compare(actual, np.array([[1.0, 2.0], [3.0, 4.0]]), EXACT)
    assert message is not None
    assert "1 of 4 elements are wrong, 0 of them NaN; worst at (1, 1): 9, expected 4" in message


def test_unwritten_elements_are_counted() -> None:
    actual = np.array([1.0, np.nan, np.nan])
    message = compare(actual, np.array([1.0, 2.0, 3.0]), Tolerance(rtol=1.0, atol=1.0))
    assert message is not None
    assert "2 of 3 elements are wrong, 2 of them NaN" in message


def test_infinities_and_nan_must_be_where_the_reference_has_them() -> None:
    reference = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert compare(reference.astype(np.float32), reference, EXACT) is None
    assert compare(np.array([-np.inf, -np.inf, np.nan, 1.0]), reference, EXACT) is not None
    assert compare(np.array([np.inf, -np.inf, 0.0, 1.0]), reference, EXACT) is not None


def test_wrong_shape_is_said() -> None:
    assert compare(np.zeros((2, 3)), np.zeros((3, 2)), EXACT) == "shape is (2, 3), expected (3, 2)"


def test_counts_of_a_product(matmul: Callable[..., Workload]) -> None:
    workload = matmul(16, 32, 64, "float16")
    assert flops_of(workload) == 2 * 16 * 32 * 64
    assert unique_bytes_of(workload) == 2 * (16 * 64 + 64 * 32 + 16 * 32)


def test_tolerance_follows_positions_computed_from_indices(
    describe: Callable[..., Workload],
) -> None:
    from tvm import topi

    def enlarged(extent: int) -> Workload:
        def resize(x: Any) -> Any:
            corners = "align_corners"
            size = (extent, extent)
            return topi.image.resize2d(
                x, (0.0,) * 4, size, coordinate_transformation_mode=corners, method="linear"
            )

        return describe(resize, ((1, 1, 16, 16), "float32"))

    plain = describe(topi.nn.relu, ((1, 1, 16, 16), "float32"))
    small, large = tolerance_of(enlarged(32)), tolerance_of(enlarged(512))
    assert tolerance_of(plain).atol < small.atol < large.atol < 1e-3


def test_programs_with_infinities_are_read() -> None:
    """TVM writes them in a way that strict JSON lacks."""
    tvm = _tvm.load()
    program = tvm.ir.save_json(tvm.tirx.const(float("-inf"), "float32"))
    assert str(tvm.ir.load_json(raise_floats(program))) == 'T.float64("-inf")'
    assert largest_coordinate(program) == 0
