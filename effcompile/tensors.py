"""Arrays of callers and tensors of the runtime: borrowed where possible, copied where not.

Compiled kernels assume that data starts on a 64-byte boundary and crash where it does
not (aligned vector loads), so a borrowed tensor must lie on one. PyTorch allocates
that way; NumPy promises 16 bytes only, so many of its arrays are copied once.

bfloat16, the 8-bit floats and bool do not pass through NumPy's DLPack everywhere:
their bits cross as unsigned integers and are given their type back on the other side.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from effcompile.dtypes import dtype_named, is_extended, name_of
from effcompile.runtime_libraries import CPU_DEVICE_TYPE, load_runtime, runtime_function

ALIGNMENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """What an input check needs to know of an array, wherever it lives.

    Attributes:
        kind: ``numpy``, ``torch`` or ``tensor`` (one of the runtime's own).
        shape: Extents.
        dtype: Dtype name.
        device: ``cpu`` or ``cuda:0``.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    device: str


def facts_of(value: Any) -> Facts:
    """Describe a caller's array.

    Raises:
        TypeError: It is neither a NumPy array nor a tensor, or of a dtype no module takes.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return Facts("numpy", tuple(value.shape), name_of(value.dtype), "cpu")
    if is_torch(value):
        name = str(value.dtype).removeprefix("torch.")
        return Facts("torch", tuple(value.shape), name, str(value.device))
    if isinstance(value, load_runtime().Tensor):
        return Facts("tensor", tuple(value.shape), str(value.dtype), device_name(value))
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


def is_torch(value: Any) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def device_name(tensor: Any) -> str:
    """``cpu`` or ``cuda:0`` of a runtime tensor."""
    device = tensor.device
    if device.dlpack_device_type() == CPU_DEVICE_TYPE:
        return "cpu"
    return f"cuda:{device.index}"


def to_tensor(value: Any, device: str) -> Any:
    """A runtime tensor on ``device`` with the value's data: borrowed if it already fits.

    Args:
        value: NumPy array, torch tensor or runtime tensor.
        device: ``cpu`` or ``cuda:0``; data elsewhere is copied there.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(value), device)
    tensor = _from_torch(value) if is_torch(value) else value
    return tensor if device_name(tensor) == device else copied(tensor, device)


def borrow_numpy(array: npt.NDArray[np.generic]) -> Any:
    """A runtime tensor over a contiguous, aligned, writable array of this byte order."""
    name = name_of(array.dtype)
    ffi = load_runtime()
    if not is_extended(name):
        return ffi.from_dlpack(array)
    bits = ffi.from_dlpack(array.view(_bits_dtype(name)))
    return _reinterpreted(bits, name)


def copied(tensor: Any, device: str) -> Any:
    """A new runtime tensor on ``device`` with the same content."""
    fresh = empty(tuple(tensor.shape), str(tensor.dtype), device)
    runtime_function("TVMTensorCopyFromTo")(tensor, fresh)
    return fresh


def empty(shape: tuple[int, ...], dtype: str, device: str) -> Any:
    """A new runtime tensor with unspecified content."""
    ffi = load_runtime()
    return runtime_function("TVMTensorAllocWithScope")(
        ffi.Shape(shape), ffi.dtype(dtype), ffi.device(device), None
    )


def to_numpy(tensor: Any) -> npt.NDArray[np.generic]:
    """The content as a NumPy array: a view of host memory, a copy of device memory."""
    name = str(tensor.dtype)
    if device_name(tensor) != "cpu":
        array = np.empty(tuple(tensor.shape), dtype=dtype_named(name))
        runtime_function("TVMTensorCopyToBytes")(tensor, _address(array), array.nbytes)
        return array
    if not is_extended(name):
        return np.from_dlpack(tensor)
    bits = np.from_dlpack(_reinterpreted(tensor, _bits_dtype(name).name))
    return bits.view(dtype_named(name))


def to_torch(tensor: Any, device: str) -> Any:
    """The content as a torch tensor on ``device``: a view where it already is there."""
    import torch

    return torch.from_dlpack(tensor).to(device)


def _from_numpy(array: npt.NDArray[np.generic], device: str) -> Any:
    array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    if device == "cpu" and array.flags.writeable and array.ctypes.data % ALIGNMENT_BYTES == 0:
        return borrow_numpy(array)
    tensor = empty(array.shape, name_of(array.dtype), device)
    runtime_function("TVMTensorCopyFromBytes")(tensor, _address(array), array.nbytes)
    return tensor


def _from_torch(value: Any) -> Any:
    value = value.detach().contiguous()
    if value.data_ptr() % ALIGNMENT_BYTES:
        value = value.clone()
    return load_runtime().from_dlpack(value)


def _address(array: npt.NDArray[np.generic]) -> Any:
    import ctypes

    return ctypes.c_void_p(array.ctypes.data)


def _bits_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(f"uint{8 * dtype_named(name).itemsize}")


def _reinterpreted(tensor: Any, dtype: str) -> Any:
    ffi = load_runtime()
    return runtime_function("TVMTensorCreateView")(
        tensor, ffi.Shape(tuple(tensor.shape)), ffi.dtype(dtype), 0
    )
