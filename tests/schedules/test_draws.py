"""Random values: as many as wanted, of which few are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from schedules import draws
from schedules.draws import MOST_DRAWN, normal, repeated


def test_the_limit_is_a_prime_above_what_has_always_been_drawn_whole() -> None:
    assert 2**24 < MOST_DRAWN < 2**24 + 100
    assert all(MOST_DRAWN % divisor for divisor in range(2, int(MOST_DRAWN**0.5) + 1))


@pytest.mark.parametrize("width", [1000, 4096, 128 * 50])
def test_no_two_rows_repeat_each_other(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(draws, "MOST_DRAWN", 4999)
    values = normal((64, width), "float32", np.random.default_rng(0))
    assert len(np.unique(values.reshape(-1))) <= 4999
    assert len(np.unique(values, axis=0)) == 64


def test_few_values_are_those_of_the_generator() -> None:
    found = normal((3, 5), "float16", np.random.default_rng(7))
    wanted = np.random.default_rng(7).standard_normal((3, 5), dtype=np.float32)
    np.testing.assert_array_equal(found, wanted.astype(np.float16))


def test_values_are_used_again_in_their_order() -> None:
    assert repeated(np.arange(3), (2, 4)).tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]]
