from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effcompile.output_comparison import OutputComparison, compare_outputs
from effcompile.verification import _torch_reference

REFERENCE = np.random.default_rng(0).standard_normal((32, 16))


def only(found: np.ndarray, reference: np.ndarray) -> OutputComparison:
    return compare_outputs(["y"], [found], [reference])[0]


def test_rounding_passes() -> None:
    assert only(REFERENCE.astype(np.float32), REFERENCE).is_equal
    assert only(REFERENCE.astype(np.float16), REFERENCE).is_equal


def test_error_is_relative_to_the_scale() -> None:
    found = REFERENCE.astype(np.float32)
    found[3, 4] += 0.01
    verdict = only(found * 1000, REFERENCE * 1000)
    assert not verdict.is_equal
    assert verdict.relative_error == pytest.approx(0.01, rel=0.05)
    assert "worst at [3, 4]" in verdict.reason


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_values_that_are_not_finite_fail(poison: float) -> None:
    found = REFERENCE.astype(np.float32)
    found[0, 0] = poison
    assert only(found, REFERENCE).reason == "1 values are not finite, the reference's are"


def test_infinities_of_the_reference_must_be_reproduced() -> None:
    reference = REFERENCE.copy()
    reference[1] = -np.inf
    assert only(reference.astype(np.float32), reference).is_equal
    assert not only(np.where(np.isinf(reference), np.inf, reference), reference).is_equal


def test_integers_must_be_equal() -> None:
    indices = np.arange(10)
    assert only(indices, indices).is_equal
    assert not only(indices + (indices == 9), indices).is_equal


def test_shapes_must_be_equal() -> None:
    assert only(REFERENCE[:3], REFERENCE).reason == "shape [3, 16], expected [32, 16]"


def test_all_zero_reference_uses_the_absolute_error() -> None:
    zeros = np.zeros(4, np.float32)
    assert only(zeros, zeros).relative_error == 0
    assert not only(zeros + 1, zeros).is_equal


NESTED = """
import torch
class Nested(torch.nn.Module):
    def forward(self, x, state, mask=None):
        return {"y": x + state[0], "state": (x, [state[1]]), "none": None}
def build():
    return Nested(), (torch.ones(2), (torch.zeros(2), torch.full((2,), 3.0)), None)
"""


def test_what_a_module_takes_and_returns_may_be_nested(tmp_path: Path) -> None:
    """As models do that return a mapping of named outputs, or the states of a cell."""
    (tmp_path / "nested.py").write_text(NESTED)
    inputs, outputs = _torch_reference(f"{tmp_path / 'nested.py'}:build")
    assert [list(one) for one in inputs] == [[1, 1], [0, 0], [3, 3]]
    assert [list(one) for one in outputs] == [[1, 1], [1, 1], [3, 3]]
