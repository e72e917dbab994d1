"""Dtype names and NumPy dtypes, including those that NumPy itself does not have."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

_PLAIN = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_EXTENDED = re.compile(r"bfloat16|float8_e[0-9]m[0-9][a-z0-9]*")


@lru_cache(maxsize=64)
def dtype_named(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name such as ``float32``, ``bool`` or ``bfloat16``.

    Raises:
        TypeError: No tensor of a module can have that dtype.
    """
    if _PLAIN.fullmatch(name):
        return np.dtype(name)
    if _EXTENDED.fullmatch(name):
        import ml_dtypes

        if hasattr(ml_dtypes, name):
            extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
            return extended
    raise TypeError(f"unknown dtype {name!r}")


def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a dtype, whatever its byte order.

    Raises:
        TypeError: No tensor of a module can have that dtype.
    """
    name = dtype.newbyteorder("=").name
    dtype_named(name)
    return name


def is_extended(name: str) -> bool:
    """Whether the dtype crosses DLPack as raw bits: NumPy lacks it, or exports it only lately."""
    return name == "bool" or _PLAIN.fullmatch(name) is None
