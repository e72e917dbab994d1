"""What a device's power limit makes of the power that a kernel would draw without it.

At the limit the clock gives way: time goes with power to the -0.444 (H100, over whole swings of
its controller), so a kernel that would draw ``p`` takes ``(p / limit) ** 0.444`` times as long at
the limit. Energy over the time that it takes in short bursts, which is what models learn as
power, therefore rises with ``p`` up to the limit, and beyond it with ``p ** 0.444``.
"""

from __future__ import annotations

import numpy as np

TIME_EXPONENT = 0.444
"""Measured over 87 counter steps of three loads, correlation 0.997; see docs/measuring.md."""


def limited(log_w: np.ndarray, limit_w: float | None) -> np.ndarray:
    """Logarithms of watts that are left at a limit, of those drawn without it, shape (n,)."""
    return log_w if limit_w is None else _bent(log_w, limit_w, TIME_EXPONENT)


def unlimited(log_w: np.ndarray, limit_w: float | None) -> np.ndarray:
    """The inverse of :func:`limited`."""
    return log_w if limit_w is None else _bent(log_w, limit_w, 1.0 / TIME_EXPONENT)


def slope(log_w: np.ndarray, limit_w: float | None) -> np.ndarray:
    """Of :func:`limited`, which errors shrink by, shape (n,)."""
    if limit_w is None:
        return np.ones(len(log_w))
    return np.where(log_w > np.log(limit_w), TIME_EXPONENT, 1.0)


def _bent(log_w: np.ndarray, limit_w: float, exponent: float) -> np.ndarray:
    above = np.maximum(0.0, log_w - np.log(limit_w))
    return np.asarray(log_w - above + exponent * above)
