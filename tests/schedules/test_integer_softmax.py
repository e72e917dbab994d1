"""The integer softmax: published numbers, exact programs, laws, points that compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.defaults import DefaultSpace
from schedules.families import own_spaces
from schedules.inputs import make_inputs
from schedules.integer_exponential import integer_exponential
from schedules.integer_softmax import IntegerSoftmaxSpace, integer_softmax_space
from schedules.integer_softmax_problem import DEFAULTS, widths_of
from schedules.reference import Tolerance, references_of, tolerance_of
from schedules.references.integer_softmax import distances, exponentials, shares
from schedules.references.softmax import softmax
from schedules.space import DesignSpace
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.building import assert_points_compile
from tests.schedules.integer_softmax_workloads import integer_softmax, small_workloads
from tests.schedules.merge_workloads import CPU

SMALL = small_workloads()
H200 = known_target("h200")

SCORES = np.array([0, -0.4, -1.05, -2, -3.1, -5.2, -7, -9], np.float32)
M4 = {"score_bits": 4, "clip": 4.0}
M8 = {"score_bits": 8}
TWO6 = {"form": "power_of_two", "octave": 4, "sum_bits": 30}
TWO8 = {"form": "power_of_two", "score_bits": 8, "octave": 16, "table_bits": 15, "sum_bits": 30}


def computed(
    scores: np.ndarray, attrs: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, exponentials, sums and parts."""
    known = {**DEFAULTS, **attrs}
    exponential, widths = integer_exponential(known), widths_of(known)
    raised, total = exponentials(scores, exponential, widths)
    return distances(scores, exponential), raised, total, shares(raised, total, widths)


@pytest.mark.parametrize(
    ("attrs", "u", "e", "s", "parts"),
    [
        (
            {}, [0, 4, 9, 18, 28, 47, 63, 63], [221, 141, 79, 27, 8, 0, 0, 0], 476,
            [30427, 19412, 10876, 3717, 1101, 0, 0, 0],
        ),
        (
            M8, [0, 15, 38, 73, 113, 189, 255, 255], [3674, 2429, 1284, 487, 160, 19, 3, 3], 8059,
            [29877, 19752, 10441, 3960, 1301, 154, 24, 24],
        ),
        (
            M4, [0, 2, 4, 8, 12, 15, 15, 15], [38, 19, 9, 2, 0, 0, 0, 0], 68,
            [36623, 18311, 8673, 1927, 0, 0, 0, 0],
        ),
        (
            TWO6, [0, 2, 6, 12, 18, 30, 40, 52], [4096, 2896, 1448, 512, 181, 22, 4, 0], 9159,
            [29308, 20721, 10360, 3663, 1295, 157, 28, 0],
        ),
        (
            TWO8, [0, 9, 24, 46, 72, 120, 162, 208],
            [32768, 22188, 11585, 4466, 1448, 181, 29, 4], 72669,
            [29551, 20010, 10447, 4027, 1305, 163, 26, 3],
        ),
    ],
)  # fmt: skip
def test_worked_example(
    attrs: dict[str, Any], u: list[int], e: list[int], s: int, parts: list[int]
) -> None:
    codes, raised, total, found = computed(SCORES, attrs)
    assert (codes.tolist(), raised.tolist(), int(total)) == (u, e, s)
    assert found.tolist() == parts


def test_worked_example_in_eight_bits() -> None:
    for attrs, expected in (
        ({}, [118, 75, 42, 14, 4, 0, 0, 0]),
        (M8, [116, 77, 40, 15, 5, 0, 0, 0]),
        (M4, [143, 71, 33, 7, 0, 0, 0, 0]),
    ):
        assert computed(SCORES, {**attrs, "output_bits": 8})[3].tolist() == expected


@pytest.mark.parametrize(
    ("attrs", "constants"),
    [
        ({"score_bits": 4, "clip": 4.0}, (2, 5, 13, 128)),
        ({"score_bits": 6, "clip": 4.0}, (10, 21, 238, 410)),
        ({"score_bits": 6, "clip": 7.0}, (6, 12, 77, 683)),
        ({"score_bits": 6, "clip": 10.0}, (4, 8, 38, 1024)),
        ({"score_bits": 8, "clip": 7.0}, (25, 49, 1273, 2622)),
        ({"score_bits": 8, "clip": 10.0}, (17, 34, 623, 3856)),
    ],
)
def test_constants(attrs: dict[str, Any], constants: tuple[int, ...]) -> None:
    made = integer_exponential({**DEFAULTS, **attrs})
    assert (made.octave, made.shift, made.offset, made.barrett) == constants
    assert (np.diff(made.values) <= 0).all()


@pytest.mark.parametrize("bits", range(4, 13))
def test_barrett_is_integer_division(bits: int) -> None:
    codes = np.arange(1 << bits, dtype=np.int64)
    for divisor in range(1, 1 << bits):
        multiplier = -(-(1 << 2 * bits) // divisor)
        assert ((codes * multiplier) >> (2 * bits) == codes // divisor).all()


def test_sums_saturate_where_equal_scores_no_longer_fit() -> None:
    for length, expected in ((296, 221 * 296), (297, 2**16 - 1)):
        assert int(computed(np.zeros(length, np.float32), {})[2]) == expected


@pytest.mark.parametrize("attrs", [{}, M8, TWO6], ids=["M6", "M8", "two"])
def test_laws(attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    # Multiples of 1/8 and small shifts stay exact in float32.
    rows = np.round(rng.normal(0, 2, (32, 100)) * 8).astype(np.float32) / 8
    wide = {**attrs, "sum_bits": 40}
    parts = computed(rows, wide)[3]
    order = rng.permutation(100)
    assert (computed(rows[:, order], wide)[3] == parts[:, order]).all()
    assert (computed(rows + 3, wide)[3] == parts).all()
    assert (parts.sum(-1) <= 1 << 16).all()
    by_score = np.take_along_axis(parts, rows.argsort(-1), -1)
    assert (np.diff(by_score, axis=-1) >= 0).all()
    masked = rows.copy()
    masked[:, ::3] = -np.inf
    assert (computed(masked, wide)[3][:, ::3] == 0).all()
    assert computed(np.full((1, 5), -np.inf, np.float32), wide)[3].tolist() == [[0] * 5]
    assert computed(np.ones((1, 1), np.float32), wide)[3].tolist() == [[2**16 - 1]]


@pytest.mark.parametrize(
    ("attrs", "bounds"),
    [
        ({"score_bits": 6, "octave": 6, "guard_bits": 8, "clip_to_zero": True}, (0.054, 0.146)),
        ({"score_bits": 8, "octave": 17, "guard_bits": 8, "clip_to_zero": True}, (0.0075, 0.018)),
    ],
)
@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_corrected_forms_are_near_softmax(
    attrs: dict[str, Any], bounds: tuple[float, float], sigma: float
) -> None:
    """Total variation, and relative error of weighted sums with the division deferred."""
    rng = np.random.default_rng(1)
    rows = rng.normal(0, sigma, (64, 1024)).astype(np.float32)
    _, raised, total, _ = computed(rows, {**attrs, "sum_bits": 40})
    found, exact = raised / total[:, None], softmax(rows.astype(np.float64))
    assert np.abs(found - exact).sum(-1).mean() / 2 <= bounds[0]
    values = rng.normal(size=(1024, 64))
    error = np.linalg.norm((found - exact) @ values) / np.linalg.norm(exact @ values)
    assert error <= bounds[1]


@pytest.mark.parametrize("name", SMALL)
def test_default_programs_are_exact(name: str, run_on_cpu: Callable[..., Any]) -> None:
    task = Task(workload=SMALL[name], target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None


def test_family_is_found_for_cuda_alone() -> None:
    for name, workload in SMALL.items():
        found = [space.name for space in own_spaces(Task(workload=workload, target=H200))]
        # A single element keeps its default: no block of the family would have work for a warp.
        assert found == ([] if name == "one element" else ["integer_softmax"])
        assert integer_softmax_space(Task(workload=workload, target=CPU)) is None


def test_points_compile_without_spills(tmp_path: Path) -> None:
    for name in ("power of two", "deferred"):
        space = IntegerSoftmaxSpace(Task(workload=SMALL[name], target=H200))
        assert_points_compile(space, H200, tmp_path)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"form": "cubic"}, "form 'cubic'"),
        ({"score_bits": 1}, "score_bits 1"),
        ({"form": "power_of_two", "octave": 6}, "octave 6"),
        ({"score_bits": 4, "clip": 20.0}, "at most ln 2"),
        ({"guard_bits": 16, "score_bits": 12}, "a product of"),
    ],
)
def test_impossible_exponentials_are_explained(attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integer_exponential({**DEFAULTS, **attrs})


@pytest.mark.parametrize("output", ["codes", "shares"])
def test_a_sample_has_the_rows_of_the_whole_and_the_masked_one(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = integer_softmax((3, 50, 24), "float16", output=output)
    inputs = make_inputs(workload, seed=0)
    (whole,) = references_of(workload, inputs)
    monkeypatch.setattr("schedules.expected.MOST_ELEMENTS", whole.values.size // 2)
    (found,) = references_of(workload, inputs)
    assert found.rows is not None and {0, 75, 149} <= set(found.rows.tolist())
    np.testing.assert_array_equal(found.values, found.known(whole.values))
    assert not found.values[found.rows == 75].any()
    assert found.values.dtype == whole.values.dtype


def test_codes_must_agree_to_the_last_bit_and_shares_to_their_rounding() -> None:
    assert tolerance_of(integer_softmax((4, 24), "float16")) == Tolerance(rtol=0, atol=0)
    assert tolerance_of(integer_softmax((4, 24), "float16", output="shares")).rtol > 0


def test_equal_scores_are_drawn_again_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from schedules.references import integer_softmax as module

    monkeypatch.setattr(module, "MOST_DRAWN", 997)
    (scores,) = make_inputs(integer_softmax((100, 24), "float16"), seed=0)
    assert len(np.unique(scores[1:], axis=0)) == 99
    assert np.isneginf(scores[50]).all() and (scores[0] == scores[0, 0]).all()
    assert 0.02 < np.isneginf(scores[:50]).mean() < 0.1
