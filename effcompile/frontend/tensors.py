"""Stored ONNX tensors as arrays that TVM can hold."""

from __future__ import annotations

from typing import Any

import numpy as np


def tensor_value(tensor: Any) -> Any:
    """The value of an ONNX initialiser as a ``tvm.runtime.Tensor``.

    Four-bit integers come out one per byte, as ``int8`` or ``uint8``: TVM has no
    four-bit tensors, and every consumer converts them before computing.
    """
    import tvm

    return tvm.runtime.tensor(array_of(tensor))


def array_of(tensor: Any) -> np.ndarray:
    """The value of an ONNX initialiser as a NumPy array; see :func:`tensor_value`.

    Raises:
        ValueError: Its type cannot be compiled.
    """
    import onnx
    from onnx import TensorProto, numpy_helper

    array: np.ndarray = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.INT4:
        return array.astype(np.int8)
    if tensor.data_type == TensorProto.UINT4:
        return array.astype(np.uint8)
    if array.dtype.hasobject:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise ValueError(f"initialiser {tensor.name} has type {name}, which cannot be compiled")
    return np.ascontiguousarray(array).reshape(tuple(tensor.dims))
