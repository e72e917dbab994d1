"""Questions about dtypes by TVM's names."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


def is_integer(dtype: str) -> bool:
    """Whether a dtype name means integers (bool is not one)."""
    return dtype.startswith(("int", "uint"))


def is_float(dtype: str) -> bool:
    """Whether a dtype name means floats of any width."""
    return not is_integer(dtype) and dtype != "bool"


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of a TVM dtype name, also for the short floats NumPy lacks."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype))
