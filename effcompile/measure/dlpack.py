"""Tensors over memory that we own, at any address, for TVM kernels.

TVM's own views carry a byte offset, which compiled kernels refuse. A DLPack capsule
whose data pointer is the address itself has none.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from schedules.workload import TensorSpec

CPU, CUDA = 1, 2
_NAME = b"dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


_alive: dict[int, tuple[_Managed, Any, Any]] = {}


def _forget(address: int) -> None:
    _alive.pop(address, None)


_release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_forget)


@functools.cache
def _new_capsule() -> Any:
    function = ctypes.pythonapi.PyCapsule_New
    function.restype = ctypes.py_object
    function.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return function


class _Exporter:
    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self._capsule = capsule
        self._device = device

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def tensor_at(address: int, spec: TensorSpec, *, device: tuple[int, int], owner: Any) -> Any:
    """A TVM tensor over existing memory, without a copy.

    Args:
        address: First byte; aligned to 64 bytes, which compiled kernels rely on.
        spec: Shape and dtype.
        device: DLPack device type and index.
        owner: Kept alive as long as the tensor.
    """
    import tvm_ffi

    dtype = tvm_ffi.dtype(spec.dtype)
    shape = (ctypes.c_int64 * max(1, len(spec.shape)))(*spec.shape)
    managed = _Managed(
        tensor=_Tensor(
            data=address,
            device=_Device(*device),
            ndim=len(spec.shape),
            dtype=_DataType(dtype.type_code, dtype.bits, dtype.lanes),
            shape=shape,
            strides=None,
            byte_offset=0,
        ),
        context=None,
        deleter=_release,
    )
    _alive[ctypes.addressof(managed)] = (managed, shape, owner)
    capsule = _new_capsule()(ctypes.addressof(managed), _NAME, None)
    return tvm_ffi.from_dlpack(_Exporter(capsule, device))
