"""Numbers for people: with unit and interval, and only the digits the interval supports."""

from __future__ import annotations

import math

from search.final import Ratio

_DIGITS_WITHOUT_INTERVAL = 3


def quantity(value: float, half_width: float | None, unit: str) -> str:
    """``68.1 ± 0.4 mJ``: the interval decides where the digits end.

    The half width keeps one digit, two if it starts with 1 (where one digit would be off
    by up to half); the value ends at the same place. Without an interval
    the value keeps three digits and says ``about``.

    Args:
        value: Best estimate, in ``unit``.
        half_width: Half width of the 95 % interval; ``None`` if unknown.
        unit: Printed as it is.
    """
    if half_width is None or not half_width > 0:
        prefix = "" if half_width == 0 else "about "
        return f"{prefix}{_plain(value, _decimals_of(value))} {unit}"
    decimals = _decimals_of_interval(half_width)
    return f"{_plain(value, decimals)} ± {_plain(half_width, decimals)} {unit}"


def change(ratio: Ratio) -> str:
    """``-14.2 % [-14.8, -13.6]``, or ``tie`` where the interval holds no change."""
    if ratio.is_tie:
        return "tie"
    low, median, high = (100 * (end - 1) for end in (ratio.low, ratio.median, ratio.high))
    decimals = min(2, _decimals_of_interval((high - low) / 2)) if high > low else 1
    numbers = [_plain(number, decimals, signed=True) for number in (median, low, high)]
    return f"{numbers[0]} % [{numbers[1]}, {numbers[2]}]"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``03:20``, ``2:05:09``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def count(number: float) -> str:
    """Two digits of a rough count: ``about 1 400 000``."""
    if number < 10:
        return f"about {number:.1g}"
    step = 10 ** (math.floor(math.log10(number)) - 1)
    return f"about {round(number / step) * step:,.0f}".replace(",", "\u202f")


def rough(value: float) -> str:
    """Three digits, never an exponent: ``5200``, ``0.0412``."""
    return _plain(value, _decimals_of(value))


def _decimals_of_interval(half_width: float) -> int:
    exponent = math.floor(math.log10(half_width))
    leading = round(half_width / 10**exponent, 1)
    return (1 if leading < 2 else 0) - exponent


def _decimals_of(value: float) -> int:
    if value == 0:
        return 0
    return _DIGITS_WITHOUT_INTERVAL - 1 - math.floor(math.log10(abs(value)))


def _plain(value: float, decimals: int, *, signed: bool = False) -> str:
    text = f"{round(value, decimals):{'+' if signed else ''}.{max(0, decimals)}f}"
    return text.replace("-", "\u2212")
