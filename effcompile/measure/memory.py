"""Raw memory of a device: allocate, fill, copy. The host's, or a GPU's.

Bytes only: the short floats that NumPy lacks need no special case here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from effcompile.measure import dlpack

ALIGNMENT_BYTES = 4096


class Memory(Protocol):
    """One block of device memory; freed with the object."""

    address: int
    size_bytes: int

    def write(self, offset: int, data: np.ndarray) -> None:
        """Copy bytes (uint8) from the host to ``offset``."""

    def read(self, offset: int, into: np.ndarray) -> None:
        """Copy bytes to the host, as many as the array of uint8 holds."""

    def fill(self, value: int, offset: int, size_bytes: int) -> None:
        """Set every byte of a range."""


class Device(Protocol):
    """Where kernels run."""

    dlpack_device: tuple[int, int]

    def allocate(self, size_bytes: int) -> Memory:
        """Uninitialised memory, aligned to a page.

        Raises:
            MemoryError: There is not enough.
        """

    def synchronise(self) -> None:
        """Wait until everything launched has finished; raises what it ran into."""


class HostMemory:
    """Page-aligned memory of this process."""

    def __init__(self, size_bytes: int) -> None:
        self._storage = np.empty(size_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
        start = -self._storage.ctypes.data % ALIGNMENT_BYTES
        self._bytes = self._storage[start : start + size_bytes]
        self.address = int(self._bytes.ctypes.data)
        self.size_bytes = size_bytes

    def write(self, offset: int, data: np.ndarray) -> None:
        """See :class:`Memory`."""
        self._bytes[offset : offset + data.size] = data

    def read(self, offset: int, into: np.ndarray) -> None:
        """See :class:`Memory`."""
        into[:] = self._bytes[offset : offset + into.size]

    def fill(self, value: int, offset: int, size_bytes: int) -> None:
        """See :class:`Memory`."""
        self._bytes[offset : offset + size_bytes] = value


class HostDevice:
    """This computer's processors."""

    dlpack_device = (dlpack.CPU, 0)

    def allocate(self, size_bytes: int) -> HostMemory:
        """See :class:`Device`."""
        return HostMemory(size_bytes)

    def synchronise(self) -> None:
        """Kernels on the host have finished when their call returns."""
