"""References of operators, and samples of outputs too large to compute whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules import expected
from schedules.expected import Reference, affordable_rows
from schedules.inputs import make_inputs
from schedules.reference import compute_reference, references_of
from schedules.references import reference_of
from schedules.workload import Workload


def test_softmax_has_a_reference_and_a_generic_program_has_none(
    softmax: Callable[..., Workload], matmul: Callable[..., Workload]
) -> None:
    assert reference_of(softmax((4, 8))) is not None
    assert reference_of(matmul(4, 4, 4)) is None


@pytest.mark.parametrize("op", ["no.such", "os", "no such thing", "", "__init__"])
def test_any_operator_name_may_be_asked_for(op: str, matmul: Callable[..., Workload]) -> None:
    workload = matmul(4, 4, 4)
    odd = Workload(
        op=op,
        name="w",
        inputs=workload.inputs,
        outputs=workload.outputs,
        program=workload.program,
        program_hash="0",
    )
    assert reference_of(odd) is None


def test_what_is_affordable_is_computed_whole(softmax: Callable[..., Workload]) -> None:
    assert affordable_rows(softmax((64, 128)), flops_per_row=6400) is None


def test_a_sample_has_a_row_of_every_part_and_both_ends(softmax: Callable[..., Workload]) -> None:
    workload = softmax((10_000, 4))
    flops = 2 * expected.MOST_FLOPS / 10_000
    rows = affordable_rows(workload, flops_per_row=flops)
    assert rows is not None
    # Half of what a whole may cost, which is half of everything, and ends of tiles.
    assert 2500 <= len(rows) <= 2500 + 2 + 2 * len(expected.TILE_HEIGHTS)
    assert (rows[0], rows[-1]) == (0, 9999)
    assert set(rows // 4) == set(range(2500))
    again = affordable_rows(workload, flops_per_row=flops)
    np.testing.assert_array_equal(rows, again)


def test_however_costly_some_rows_are_computed(softmax: Callable[..., Workload]) -> None:
    rows = affordable_rows(softmax((500, 4)), flops_per_row=1e15)
    assert rows is not None
    assert expected.LEAST_ROWS <= len(rows) <= 2 * expected.LEAST_ROWS + 2


def test_a_sample_has_the_ends_of_slices_and_of_tiles_and_what_is_asked_for(
    softmax: Callable[..., Workload],
) -> None:
    workload = softmax((24, 4429, 4))
    rows = affordable_rows(workload, flops_per_row=expected.MOST_FLOPS / 1000, and_rows=(4242,))
    assert rows is not None and 4242 in rows
    assert {head * 4429 + end for head in range(24) for end in (0, 4428)} <= set(rows.tolist())
    borders = {int(row) % 4429 for row in rows if row - 1 in rows}
    assert all(
        any(border and border % height == 0 for border in borders)
        for height in expected.TILE_HEIGHTS
    )


@pytest.mark.parametrize("log", [False, True])
def test_a_sampled_softmax_holds_rows_of_the_whole(
    softmax: Callable[..., Workload], monkeypatch: pytest.MonkeyPatch, log: bool
) -> None:
    workload = softmax((6, 50, 33), log=log, scale=1.5)
    inputs = make_inputs(workload, seed=0)
    (whole,) = compute_reference(workload, inputs)
    monkeypatch.setattr(expected, "MOST_ELEMENTS", 6 * 50 * 33 // 2)
    (sampled,) = references_of(workload, inputs)
    assert sampled.rows is not None and len(sampled.rows) < 150
    np.testing.assert_array_equal(sampled.values, sampled.known(whole))
    lowest, highest = sampled.limits
    assert lowest <= whole.min() and whole.max() <= highest
    assert lowest > whole.min() - 15
    assert sampled.position(33 * 1 + 2, whole.shape) == (0, int(sampled.rows[1]), 2)
    with pytest.raises(ValueError, match="only a sample"):
        compute_reference(workload, inputs)


def test_a_sample_must_be_of_numbers() -> None:
    rows = np.array([0, 3])
    with pytest.raises(ValueError, match="finite"):
        Reference(values=np.array([[1.0], [np.nan]]), rows=rows, limits=(0.0, 1.0))
    with pytest.raises(ValueError, match="one row of values per sampled row"):
        Reference(values=np.ones((3, 1)), rows=rows, limits=(0.0, 1.0))
