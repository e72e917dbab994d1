"""Memory of a CUDA device, filled and copied in the stream of the kernels."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from effcompile.measure.cuda_driver import checked, driver


class CudaMemory:
    """Device memory; see ``memory.Memory``.

    Everything goes through the stream of the kernels: they do not wait for another one.

    Args:
        size_bytes: At least 1.
        stream: The device's.
    """

    def __init__(self, size_bytes: int, stream: Any) -> None:
        self._cuda = driver()
        self._stream = stream
        self._pointer = checked(self._cuda.cuMemAlloc(size_bytes))
        self.address = int(self._pointer)
        self.size_bytes = size_bytes

    def write(self, offset: int, data: np.ndarray) -> None:
        """See :class:`Memory`."""
        if data.size:
            data = np.ascontiguousarray(data)
            address = self.address + offset
            checked(
                self._cuda.cuMemcpyHtoDAsync(address, data.ctypes.data, data.size, self._stream)
            )
            # The host's memory may change or go once this returns.
            checked(self._cuda.cuStreamSynchronize(self._stream))

    def read(self, offset: int, into: np.ndarray) -> None:
        """See :class:`Memory`."""
        if into.size:
            address = self.address + offset
            checked(
                self._cuda.cuMemcpyDtoHAsync(into.ctypes.data, address, into.size, self._stream)
            )
            checked(self._cuda.cuStreamSynchronize(self._stream))

    def copy_from(self, address: int, size_bytes: int) -> None:
        """Copy bytes from another place of the device to the start."""
        if size_bytes:
            checked(self._cuda.cuMemcpyDtoDAsync(self.address, address, size_bytes, self._stream))

    def fill(self, value: int, offset: int, size_bytes: int) -> None:
        """See :class:`Memory`."""
        if size_bytes:
            address = self.address + offset
            checked(self._cuda.cuMemsetD8Async(address, value, size_bytes, self._stream))

    def __del__(self) -> None:
        # After a device fault the context is gone, and the memory with it.
        with contextlib.suppress(Exception):
            self._cuda.cuMemFree(self._pointer)
