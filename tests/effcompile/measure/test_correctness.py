from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from effcompile.measure.arguments import GUARD_BYTES, Arguments, place
from effcompile.measure.correctness import Checker
from effcompile.measure.memory import HostDevice
from effcompile.measure.prepared import Prepared, bounds_of, expectation_of
from schedules.expected import Reference
from schedules.reference import Tolerance, compare, scale_of
from schedules.workload import TensorSpec, Workload

TOLERANCE = Tolerance(rtol=1e-3, atol=1e-3)


def checked(reference: np.ndarray, actual: np.ndarray) -> tuple[str, int]:
    """The checker's sentence, and how many elements the quick way was sure of."""
    spec = TensorSpec(name="y", shape=actual.shape, dtype=actual.dtype.name)
    workload = Workload(
        op="generic", name="w", inputs=(), outputs=(spec,), program="", program_hash="0"
    )
    expected = expectation_of(Reference(values=reference), TOLERANCE, dtype=spec.dtype)
    prepared = Prepared(inputs=[], outputs=[expected], tolerance=TOLERANCE)
    arguments: Arguments = place(HostDevice(), workload, [])

    def launch() -> None:
        raw = np.ascontiguousarray(actual).reshape(-1).view(np.uint8)
        arguments.outputs[0].memory.write(GUARD_BYTES, raw)

    flat = actual.astype(np.float32).reshape(-1)
    sure = (flat >= expected.lowest) & (flat <= expected.highest)
    return Checker(prepared).check(launch, arguments), int(np.count_nonzero(sure))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_near_enough_is_right_and_surely_so(dtype: str) -> None:
    reference = np.random.default_rng(0).standard_normal((64, 64))
    actual = (reference * (1 + 1e-4)).astype(getattr(ml_dtypes, dtype, dtype))
    if dtype == "bfloat16":
        reference = actual.astype(np.float64)
    assert checked(reference, actual) == ("", 4096)


def test_one_element_too_far_is_found() -> None:
    reference = np.random.default_rng(0).standard_normal((64, 64))
    actual = reference.astype(np.float32)
    actual[3, 5] += 0.1
    words, n_sure = checked(reference, actual)
    assert "1 of 4096" in words
    assert n_sure == 4095


def test_infinities_where_they_belong_are_right() -> None:
    reference = np.array([1.0, np.inf, -np.inf, np.nan])
    assert checked(reference, reference.astype(np.float32)) == ("", 1)
    words, _ = checked(reference, np.array([1.0, 2.0, -np.inf, np.nan], dtype=np.float32))
    assert "1 of 4" in words


def test_the_quick_way_never_accepts_what_the_full_comparison_refuses() -> None:
    rng = np.random.default_rng(1)
    reference = rng.standard_normal(20_000)
    allowed = 1e-3 * np.sqrt(np.mean(reference**2)) + 1e-3 * np.abs(reference)
    # Around the limit, on both sides, as finely as float32 can tell.
    actual = reference + allowed * rng.choice([-1, 1], 20_000) * (
        1 + 1e-3 * rng.normal(size=20_000)
    )
    actual = actual.astype(np.float32)
    lowest, highest = bounds_of(reference, TOLERANCE, scale_of(reference))
    accepted = (actual >= lowest) & (actual <= highest)
    assert 0.1 < accepted.mean() < 0.9
    assert np.all(np.abs(actual[accepted] - reference[accepted]) <= allowed[accepted])
    assert compare(actual, reference, TOLERANCE) is not None


def sampled(
    values: np.ndarray,
    actual: np.ndarray,
    *,
    limit: float = 8.0,
    written: np.ndarray | bool = True,
) -> str:
    """The checker's sentence where the first, eighth and last row of an output are known."""
    spec = TensorSpec(name="y", shape=actual.shape, dtype=actual.dtype.name)
    workload = Workload(
        op="generic", name="w", inputs=(), outputs=(spec,), program="", program_hash="0"
    )
    rows = np.array([0, 7, 19])
    reference = Reference(values=values[rows], rows=rows, limits=(-limit, limit))
    outputs = [expectation_of(reference, TOLERANCE, dtype=spec.dtype)]
    arguments = place(HostDevice(), workload, [])
    (output,) = arguments.outputs

    def launch() -> None:
        result = np.where(written, actual, output.typed(output.read_bytes()))
        output.memory.write(GUARD_BYTES, np.ascontiguousarray(result).reshape(-1).view(np.uint8))

    prepared = Prepared(inputs=[], outputs=outputs, tolerance=TOLERANCE)
    return Checker(prepared).check(launch, arguments)


def test_of_a_sampled_output_known_rows_are_compared_and_all_others_must_be_possible() -> None:
    values = np.random.default_rng(0).standard_normal((20, 16))
    right = values.astype(np.float32)
    assert sampled(values, right) == ""
    wrong = right.copy()
    wrong[7, 3] += 1
    assert "worst at (7, 3)" in sampled(values, wrong)
    wrong = right.copy()
    wrong[8, 15] = 8.5
    assert "the first at (8, 15): 8.5, expected -8.0" in sampled(values, wrong)


def test_of_a_sampled_output_elements_that_were_never_written_are_found() -> None:
    values = np.random.default_rng(0).standard_normal((20, 16))
    written = np.ones((20, 16), dtype=bool)
    written[8, 15] = False
    found = sampled(values, values.astype(np.float32), written=written)
    assert "1 of 320 elements are impossible; the first at (8, 15): nan" in found


def test_of_a_sampled_output_of_integers_a_poison_that_is_possible_is_found() -> None:
    values = np.random.default_rng(0).integers(-100, 100, (20, 16)).astype(np.int8)
    assert sampled(values, values, limit=100) == ""
    written = np.ones((20, 16), dtype=bool)
    written[8, 15] = False
    # -1, then 60.
    assert "different outputs" in sampled(values, values, limit=100, written=written)


class FixedScreen:
    """Says what it is told to, and counts how often it was asked."""

    def __init__(self, *, sure: bool) -> None:
        self.sure = sure
        self.n_asked = 0

    def outputs_are_right(self, arguments: Arguments) -> bool:
        del arguments
        self.n_asked += 1
        return self.sure

    rest_is_untouched = outputs_are_right

    def keep(self, arguments: Arguments) -> None:
        raise AssertionError("no output can hide a poison")

    def are_as_kept(self, arguments: Arguments) -> bool:
        raise AssertionError("nothing was kept")


def screened(screen: FixedScreen, actual: np.ndarray, *, stray: bool = False) -> str:
    """The checker's sentence on zeros that should be zeros, with a screen asked first."""
    spec = TensorSpec(name="y", shape=(8,), dtype="float32")
    workload = Workload(
        op="generic", name="w", inputs=(), outputs=(spec,), program="", program_hash="0"
    )
    expected = expectation_of(Reference(values=np.ones(8)), TOLERANCE, dtype="float32")
    arguments = place(HostDevice(), workload, [])

    def launch() -> None:
        arguments.outputs[0].memory.write(GUARD_BYTES, actual.astype(np.float32).view(np.uint8))
        if stray:
            arguments.outputs[0].memory.write(GUARD_BYTES + 32, np.zeros(1, np.uint8))

    prepared = Prepared(inputs=[], outputs=[expected], tolerance=TOLERANCE)
    return Checker(prepared, screen).check(launch, arguments)


def test_a_screen_that_is_sure_is_believed() -> None:
    screen = FixedScreen(sure=True)
    assert screened(screen, np.zeros(8), stray=True) == ""
    assert screen.n_asked == 2


def test_what_a_screen_is_not_sure_of_is_decided_on_the_host() -> None:
    screen = FixedScreen(sure=False)
    assert screened(screen, np.ones(8)) == ""
    assert screen.n_asked == 2
    assert "8 of 8 elements are wrong" in screened(screen, np.zeros(8))
    assert "wrote outside argument y" in screened(screen, np.ones(8), stray=True)
