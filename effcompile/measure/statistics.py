"""Middle and 95 % interval of a few repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Half width of the two-sided 95 % interval in standard errors, by degrees of freedom.
_STUDENT_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
_NORMAL = 1.96
MIN_FOR_ORDER_STATISTICS = 6


def student_t(degrees_of_freedom: int) -> float:
    """Half width of the 95 % interval in standard errors, slightly wide above 8 degrees."""
    if degrees_of_freedom in _STUDENT_T:
        return _STUDENT_T[degrees_of_freedom]
    return _NORMAL + 2.5 / degrees_of_freedom


def median_with_ci95(values: Sequence[float]) -> tuple[float, float]:
    """Median and half width of its 95 % interval.

    From six values on, the interval runs between order statistics, which assumes
    nothing about the distribution: a share ``1 - 2 * P(Binomial(n, 1/2) < k)`` of such
    intervals holds the true median. Fewer cannot reach 95 %, so Student's interval of
    the mean stands in.

    Args:
        values: At least two repeats.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    median = float(np.median(ordered))
    n = len(ordered)
    if n < MIN_FOR_ORDER_STATISTICS:
        spread = float(np.std(ordered, ddof=1))
        return median, student_t(n - 1) * spread / float(np.sqrt(n))
    rank = _rank(n)
    return median, float(ordered[n - 1 - rank] - ordered[rank]) / 2


def _rank(n: int) -> int:
    """Largest ``k`` with ``P(Binomial(n, 1/2) <= k) <= 2.5 %``: the interval's lower rank."""
    tail, term, rank = 0.0, 0.5**n, -1
    while tail + term <= 0.025:
        tail += term
        rank += 1
        term *= (n - rank) / (rank + 1)
    return rank
