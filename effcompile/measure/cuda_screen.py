"""Looks at outputs, inputs and guards in device memory, without copying them to the host.

What counts as right is on the device once per workload: float32 bounds of every known element,
and a copy of what is never to change. A look is a few kernels and one counter that comes back.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from effcompile.measure.arguments import GUARD_VALUE, Arguments, GuardedTensor, as_bytes
from effcompile.measure.correctness import limits_with_error
from effcompile.measure.cuda_device import CudaDevice, CudaFunctions
from effcompile.measure.cuda_memory import CudaMemory
from effcompile.measure.prepared import Prepared
from effcompile.measure.screen_source import FLOAT_KERNELS
from schedules.dtypes import is_float
from schedules.workload import Workload

# The rest belongs to the kernels under test, which may allocate workspaces.
MOST_SHARE_OF_FREE_MEMORY = 0.25
THREADS = 256
MOST_BLOCKS = 4096


def open_screen(
    device: CudaDevice, functions: CudaFunctions, workload: Workload, prepared: Prepared
) -> CudaScreen | None:
    """A screen for a workload; ``None`` if the device has no room or no kernel for it."""
    for spec, output in zip(workload.outputs, prepared.outputs, strict=True):
        if is_float(spec.dtype) and spec.dtype not in FLOAT_KERNELS:
            return None
        if not is_float(spec.dtype) and not output.reference.is_whole:
            return None
    needed = sum(array.nbytes for array in _kept(prepared))
    if needed > MOST_SHARE_OF_FREE_MEMORY * device.free_bytes():
        return None
    try:
        return CudaScreen(device, functions, prepared)
    except MemoryError:
        return None


def _kept(prepared: Prepared) -> Iterator[np.ndarray]:
    """Everything a screen keeps on the device."""
    yield from prepared.inputs
    for output in prepared.outputs:
        if output.lowest.size:
            yield from (output.lowest, output.highest)
            if output.reference.rows is not None:
                yield output.reference.rows
        else:
            yield output.reference.values


class CudaScreen:
    """A :class:`effcompile.measure.correctness.Screen` of one workload.

    Args:
        device: Where the arguments are.
        functions: The kernels of ``screen_source``.
        prepared: Inputs, references and bounds.

    Raises:
        MemoryError: The device has not enough.
    """

    def __init__(self, device: CudaDevice, functions: CudaFunctions, prepared: Prepared) -> None:
        self._device = device
        self._functions = functions
        self._prepared = prepared
        self._counter = device.allocate(8)
        copies = [self._copy(array) for array in _kept(prepared)]
        self._inputs = copies[: len(prepared.inputs)]
        self._expected = copies[len(prepared.inputs) :]

    def _copy(self, array: np.ndarray) -> CudaMemory:
        memory = self._device.allocate(max(1, array.nbytes))
        memory.write(0, as_bytes(array))
        return memory

    def outputs_are_right(self, arguments: Arguments) -> bool:
        """See ``Screen``."""
        self._counter.fill(0, 0, 8)
        expected = iter(self._expected)
        for index, output in enumerate(arguments.outputs):
            if is_float(output.spec.dtype):
                self._compare_floats(output, index, expected)
            else:
                self._compare_bytes(output, next(expected))
        return self._n_found() == 0

    def rest_is_untouched(self, arguments: Arguments) -> bool:
        """See ``Screen``."""
        self._counter.fill(0, 0, 8)
        for argument in (*arguments.inputs, *arguments.outputs):
            for start, size_bytes in argument.guards:
                address = argument.memory.address + start
                self._count("bytes_unlike", _pointer(address), _u32(GUARD_VALUE), n=size_bytes)
        for argument, copy in zip(arguments.inputs, self._inputs, strict=True):
            self._compare_bytes(argument, copy)
        return self._n_found() == 0

    def _compare_floats(
        self, output: GuardedTensor, index: int, expected: Iterator[CudaMemory]
    ) -> None:
        suffix = FLOAT_KERNELS[output.spec.dtype]
        expectation = self._prepared.outputs[index]
        reference = expectation.reference
        values, lowest, highest = map(_pointer, (output.address, *_addresses(expected, 2)))
        if reference.rows is None:
            self._count(
                f"outside_bounds_{suffix}", values, lowest, highest, n=reference.values.size
            )
            return
        (rows,) = map(_pointer, _addresses(expected, 1))
        n_rows, width = reference.values.shape
        # One block per row: no division per element.
        self._count(
            f"outside_rows_{suffix}",
            *(values, rows, lowest, highest, _u64(width)),
            n=n_rows,
            n_blocks=n_rows,
        )
        least, most = limits_with_error(expectation, self._prepared.tolerance)
        inwards = (
            np.nextafter(np.float32(least), np.float32(np.inf)),
            np.nextafter(np.float32(most), np.float32(-np.inf)),
        )
        n_elements = math.prod(output.spec.shape)
        self._count(f"outside_limits_{suffix}", values, *map(_f32, inwards), n=n_elements)

    def _compare_bytes(self, argument: GuardedTensor, copy: CudaMemory) -> None:
        self._count(
            "bytes_differ",
            _pointer(argument.address),
            _pointer(copy.address),
            n=argument.size_bytes,
            n_blocks=math.ceil(argument.size_bytes / (16 * THREADS)),
        )

    def _count(self, name: str, *arguments: Any, n: int, n_blocks: int | None = None) -> None:
        if n == 0:
            return
        if n_blocks is None:
            n_blocks = math.ceil(n / THREADS)
        self._functions.launch(
            name,
            [*arguments, _u64(n), _pointer(self._counter.address)],
            n_blocks=min(n_blocks, MOST_BLOCKS),
            n_threads=THREADS,
        )

    def _n_found(self) -> int:
        count = np.empty(8, np.uint8)
        self._counter.read(0, count)
        return int(count.view(np.uint64)[0])


_pointer, _u64, _u32, _f32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float


def _addresses(memories: Iterator[CudaMemory], n: int) -> list[int]:
    return [next(memories).address for _ in range(n)]
