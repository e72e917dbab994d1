from __future__ import annotations

import pytest

from effcompile import rounding
from search.final import Ratio


@pytest.mark.parametrize(
    ("value", "half_width", "expected"),
    [
        (68.1234, 0.412, "68.1 ± 0.4 mJ"),
        (68.1234, 0.0149, "68.123 ± 0.015 mJ"),
        (412.634, 2.6, "413 ± 3 mJ"),
        (412.634, 1.44, "412.6 ± 1.4 mJ"),
        (412634.0, 1440.0, "412600 ± 1400 mJ"),
        (5.0, 30.0, "0 ± 30 mJ"),
        (9.999, 0.0996, "10.00 ± 0.10 mJ"),
        (3.14159, None, "about 3.14 mJ"),
        (0.00123456, None, "about 0.00123 mJ"),
        (12345.0, None, "about 12300 mJ"),
        (0.0, None, "about 0 mJ"),
    ],
)
def test_digits_end_where_the_interval_begins(
    value: float, half_width: float | None, expected: str
) -> None:
    assert rounding.quantity(value, half_width, "mJ") == expected


def test_a_change_inside_the_interval_is_a_tie() -> None:
    assert rounding.change(Ratio(median=0.99, low=0.97, high=1.01)) == "tie"
    assert rounding.change(Ratio(median=1.0, low=1.0, high=1.0)) == "tie"


def test_a_change_outside_carries_its_interval() -> None:
    ratio = Ratio(median=0.8581, low=0.8523, high=0.8642)
    assert rounding.change(ratio) == "−14.2 % [−14.8, −13.6]"
    worse = Ratio(median=1.31, low=1.24, high=1.38)
    assert rounding.change(worse) == "+31 % [+24, +38]"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.44, "0.4 s"), (41.2, "41 s"), (59.7, "01:00"), (200, "03:20"), (7509, "2:05:09")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert rounding.duration(seconds) == expected


def test_rough_counts_have_two_digits() -> None:
    assert rounding.count(1_423_000) == "about 1\u202f400\u202f000"
    assert rounding.count(7.3) == "about 7"
