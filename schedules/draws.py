"""Random values in any number: drawn up to a limit, and from there on used again.

Drawing and rounding half a billion values takes ten seconds, copying them some tenths of one.
"""

from __future__ import annotations

from math import prod

import numpy as np

from schedules.dtypes import numpy_dtype

# The first prime above 2^24. Being prime, it is no multiple of a row: whatever the length of
# rows, no two of them repeat each other.
MOST_DRAWN = 16_777_259


def normal(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> np.ndarray:
    """N(0, 1) in a dtype, by TVM's name."""
    n_drawn = min(prod(shape), MOST_DRAWN)
    drawn = rng.standard_normal(n_drawn, dtype=np.float32).astype(numpy_dtype(dtype))
    return repeated(drawn, shape)


def repeated(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Flat values in a shape, from the first again where there are not enough."""
    return values.reshape(shape) if values.size == prod(shape) else np.resize(values, shape)
