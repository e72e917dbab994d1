"""The arguments of a kernel in guarded device memory.

    guard | data | guard

Guards hold a pattern, outputs a poison. After a launch the guards and the inputs must
hold what they held, so a kernel that writes where it should not is found even if its
output is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from effcompile.measure import dlpack
from effcompile.measure.memory import ALIGNMENT_BYTES, Device, Memory
from schedules.dtypes import numpy_dtype
from schedules.workload import TensorSpec, Workload

GUARD_BYTES = ALIGNMENT_BYTES
GUARD_VALUE = 0xA5


@dataclass(slots=True)
class GuardedTensor:
    """One argument.

    Attributes:
        spec: Name, shape, dtype.
        memory: Guards and data.
        tensor: What the kernel is called with.
        guard_bytes: Size of each guard.
    """

    spec: TensorSpec
    memory: Memory
    tensor: Any = field(repr=False)
    guard_bytes: int = GUARD_BYTES
    _host: np.ndarray | None = field(default=None, repr=False)

    @property
    def size_bytes(self) -> int:
        """Size of the data without guards."""
        return size_of(self.spec)

    @property
    def address(self) -> int:
        """First byte of the data."""
        return self.memory.address + self.guard_bytes

    @property
    def guards(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Offset and size, in bytes, of what lies before and behind the data."""
        behind = self.guard_bytes + self.size_bytes
        return (0, self.guard_bytes), (behind, self.memory.size_bytes - behind)

    def write(self, data: np.ndarray) -> None:
        """Set the data, and the guards around it."""
        self._set_guards()
        self.memory.write(self.guard_bytes, as_bytes(data))

    def poison(self, value: int) -> None:
        """Set every data byte to a value, and the guards around it."""
        self._set_guards()
        self.memory.fill(value, self.guard_bytes, self.size_bytes)

    def _set_guards(self) -> None:
        for start, size_bytes in self.guards:
            self.memory.fill(GUARD_VALUE, start, size_bytes)

    def read_bytes(self) -> np.ndarray:
        """The data as uint8, valid until the next call: the array is kept and filled anew.

        Touching fresh pages costs more than the copy.
        """
        if self._host is None:
            self._host = np.empty(self.size_bytes, dtype=np.uint8)
        self.memory.read(self.guard_bytes, self._host)
        return self._host

    def typed(self, data: np.ndarray) -> np.ndarray:
        """Bytes of this argument in its dtype and shape."""
        return data.view(numpy_dtype(self.spec.dtype)).reshape(self.spec.shape)

    def guards_are_whole(self) -> bool:
        """Whether nothing wrote beside the data."""
        for start, size_bytes in self.guards:
            found = np.empty(size_bytes, dtype=np.uint8)
            self.memory.read(start, found)
            if not (found == GUARD_VALUE).all():
                return False
        return True


@dataclass(frozen=True, slots=True)
class Arguments:
    """All arguments of one kernel.

    Attributes:
        inputs: In call order.
        outputs: In call order, after the inputs.
    """

    inputs: list[GuardedTensor]
    outputs: list[GuardedTensor]

    @property
    def tensors(self) -> list[Any]:
        """What the kernel is called with."""
        return [argument.tensor for argument in (*self.inputs, *self.outputs)]

    @property
    def size_bytes(self) -> int:
        """Bytes the kernel may touch."""
        return sum(argument.size_bytes for argument in (*self.inputs, *self.outputs))


def size_of(spec: TensorSpec) -> int:
    """Bytes of a dense tensor."""
    return int(np.prod(spec.shape, dtype=np.int64)) * numpy_dtype(spec.dtype).itemsize


def as_bytes(data: np.ndarray) -> np.ndarray:
    """An array's bytes as uint8, without a copy if it is contiguous."""
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def place(
    device: Device,
    workload: Workload,
    inputs: Sequence[np.ndarray],
    *,
    guard_bytes: int = GUARD_BYTES,
) -> Arguments:
    """Put inputs on a device and make room for the outputs.

    Args:
        device: Where to.
        workload: Shapes and dtypes.
        inputs: In call order.
        guard_bytes: Around every argument; 0 for tools that watch the ends of allocations.

    Raises:
        MemoryError: The device has not enough memory.
    """
    placed = [_guarded(device, spec, guard_bytes) for spec in workload.inputs]
    for argument, data in zip(placed, inputs, strict=True):
        argument.write(data)
    outputs = [_guarded(device, spec, guard_bytes) for spec in workload.outputs]
    return Arguments(inputs=placed, outputs=outputs)


def _guarded(device: Device, spec: TensorSpec, guard_bytes: int) -> GuardedTensor:
    memory = device.allocate(size_of(spec) + 2 * guard_bytes)
    tensor = dlpack.tensor_at(
        memory.address + guard_bytes, spec, device=device.dlpack_device, owner=memory
    )
    return GuardedTensor(spec=spec, memory=memory, tensor=tensor, guard_bytes=guard_bytes)
