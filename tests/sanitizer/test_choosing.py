"""Every family has problems, which it covers; few candidates take every value of every knob."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.families import FAMILIES
from schedules.knobs import Value
from schedules.target import known_target
from tests.sanitizer.choosing import covering
from tests.sanitizer.problems import PROBLEMS, space_of

H100 = known_target("h100")


def test_no_family_is_left_out() -> None:
    assert len(PROBLEMS) == len(FAMILIES)


@pytest.mark.parametrize("family", PROBLEMS)
def test_first_problem_has_points(family: str) -> None:
    make = next(iter(PROBLEMS[family].values()))
    assert space_of(family, make(), H100).simplest is not None


def test_a_family_does_not_cover_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="softmax does not cover"):
        space_of("softmax", PROBLEMS["top_rows"]["best"](), H100)


def test_few_points_take_every_value() -> None:
    points = [{"a": a, "b": b, "c": c} for a in range(5) for b in range(4) for c in "xy"]
    seen: set[tuple[str, Value]] = set()
    chosen = covering(points, 5, seen, np.random.default_rng(0))
    assert len(chosen) == 5
    assert seen == {pair for point in points for pair in point.items()}


def test_values_that_other_problems_took_are_not_sought_again() -> None:
    points = [{"a": a} for a in range(6)]
    seen: set[tuple[str, Value]] = set()
    rng = np.random.default_rng(1)
    chosen = [*covering(points, 3, seen, rng), *covering(points, 3, seen, rng)]
    assert sorted(int(one["a"]) for one in chosen) == list(range(6))
