"""What is known of dtypes, by TVM's names."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

HALF = ("float16", "bfloat16")
FLOATS = (*HALF, "float32")
"""That kernel families compute with."""
ELEMENT_BYTES = {
    **{"bool": 1, "int8": 1, "uint8": 1, "uint16": 2, "int32": 4, "int64": 8},
    **{"float16": 2, "bfloat16": 2, "float32": 4},
}
CUDA_TYPES = {
    **{"bool": "bool", "int8": "signed char", "uint8": "unsigned char"},
    **{"uint16": "unsigned short", "int32": "int", "int64": "int64_t"},
    **{"float16": "half", "bfloat16": "nv_bfloat16", "float32": "float"},
}
"""What kernels call them."""


def is_integer(dtype: str) -> bool:
    """Whether a dtype name means integers (bool is not one)."""
    return dtype.startswith(("int", "uint"))


def is_float(dtype: str) -> bool:
    """Whether a dtype name means floats of any width."""
    return not is_integer(dtype) and dtype != "bool"


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of a TVM dtype name, also for the short floats NumPy lacks."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype))
