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
from effcompile.measure.prepared import Expectation, Prepared
from effcompile.measure.screen_source import FLOAT_KERNELS, INTEGER_KERNELS
from schedules.dtypes import is_float

# The rest belongs to the kernels under test, which may allocate workspaces.
MOST_SHARE_OF_FREE_MEMORY = 0.25
THREADS = 256
MOST_BLOCKS = 4096


def open_screen(
    device: CudaDevice, functions: CudaFunctions, prepared: Prepared, arguments: Arguments
) -> CudaScreen | None:
    """A screen for a workload; ``None`` if the device has no room or no kernel for it.

    Args:
        device: Where the arguments are.
        functions: The kernels of ``screen_source``.
        prepared: Inputs, references and bounds.
        arguments: Hold the prepared inputs.
    """
    if not all(map(_has_kernels, arguments.outputs, prepared.outputs)):
        return None
    needed = sum(array.nbytes for array in (*prepared.inputs, *_expected(prepared)))
    needed += sum(output.size_bytes for output in _poisonable(prepared, arguments))
    if needed > MOST_SHARE_OF_FREE_MEMORY * device.free_bytes():
        return None
    try:
        return CudaScreen(device, functions, prepared, arguments)
    except MemoryError:
        return None


def _has_kernels(output: GuardedTensor, expectation: Expectation) -> bool:
    dtype = output.spec.dtype
    if is_float(dtype):
        return dtype in FLOAT_KERNELS
    return expectation.reference.is_whole or dtype in INTEGER_KERNELS


def _expected(prepared: Prepared) -> Iterator[np.ndarray]:
    """What outputs are compared with: bounds or values, and which rows they are of."""
    for output in prepared.outputs:
        if output.lowest.size:
            yield from (output.lowest, output.highest)
        else:
            yield output.reference.values
        if output.reference.rows is not None:
            yield output.reference.rows


def _poisonable(prepared: Prepared, arguments: Arguments) -> Iterator[GuardedTensor]:
    """Outputs in which a poison could pass for a result."""
    for output, expectation in zip(arguments.outputs, prepared.outputs, strict=True):
        if expectation.hides_poison:
            yield output


class CudaScreen:
    """A :class:`effcompile.measure.correctness.Screen` of one workload.

    Args:
        device: See :func:`open_screen`, as the others.
        functions: Kernels.
        prepared: Inputs, references and bounds.
        arguments: Hold the prepared inputs.

    Raises:
        MemoryError: The device has not enough.
    """

    def __init__(
        self,
        device: CudaDevice,
        functions: CudaFunctions,
        prepared: Prepared,
        arguments: Arguments,
    ) -> None:
        self._device = device
        self._functions = functions
        self._prepared = prepared
        self._counter = device.allocate(8)
        # What is on the device already need not come from the host again.
        self._inputs = [self._room_for(argument) for argument in arguments.inputs]
        for copy, argument in zip(self._inputs, arguments.inputs, strict=True):
            copy.copy_from(argument.address, argument.size_bytes)
        self._expected = [self._copy(array) for array in _expected(prepared)]
        self._kept = [self._room_for(output) for output in _poisonable(prepared, arguments)]

    def _room_for(self, argument: GuardedTensor) -> CudaMemory:
        return self._device.allocate(max(1, argument.size_bytes))

    def _copy(self, array: np.ndarray) -> CudaMemory:
        memory = self._device.allocate(max(1, array.nbytes))
        memory.write(0, as_bytes(array))
        return memory

    def outputs_are_right(self, arguments: Arguments) -> bool:
        """See ``Screen``."""
        self._counter.fill(0, 0, 8)
        expected = iter(self._expected)
        for output, expectation in zip(arguments.outputs, self._prepared.outputs, strict=True):
            if is_float(output.spec.dtype):
                self._compare_floats(output, expectation, expected)
            elif expectation.reference.is_whole:
                self._compare_bytes(output, next(expected))
            else:
                self._compare_integer_rows(output, expectation, expected)
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

    def keep(self, arguments: Arguments) -> None:
        """See ``Screen``."""
        for copy, output in zip(self._kept, _poisonable(self._prepared, arguments), strict=True):
            copy.copy_from(output.address, output.size_bytes)

    def are_as_kept(self, arguments: Arguments) -> bool:
        """See ``Screen``."""
        self._counter.fill(0, 0, 8)
        for copy, output in zip(self._kept, _poisonable(self._prepared, arguments), strict=True):
            self._compare_bytes(output, copy)
        return self._n_found() == 0

    def _compare_floats(
        self, output: GuardedTensor, expectation: Expectation, expected: Iterator[CudaMemory]
    ) -> None:
        suffix = FLOAT_KERNELS[output.spec.dtype]
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
            float(np.nextafter(np.float32(least), np.float32(np.inf))),
            float(np.nextafter(np.float32(most), np.float32(-np.inf))),
        )
        self._compare_limits(output, suffix, inwards)

    def _compare_integer_rows(
        self, output: GuardedTensor, expectation: Expectation, expected: Iterator[CudaMemory]
    ) -> None:
        values, known, rows = map(_pointer, (output.address, *_addresses(expected, 2)))
        n_rows = len(expectation.reference.values)
        width_bytes = expectation.reference.values.nbytes // n_rows
        self._count(
            "rows_differ", *(values, rows, known, _u64(width_bytes)), n=n_rows, n_blocks=n_rows
        )
        # Small integers, which float32 has exactly.
        least, most = limits_with_error(expectation, self._prepared.tolerance)
        limits = float(math.ceil(least)), float(math.floor(most))
        self._compare_limits(output, INTEGER_KERNELS[output.spec.dtype], limits)

    def _compare_limits(
        self, output: GuardedTensor, suffix: str, limits: tuple[float, float]
    ) -> None:
        values = _pointer(output.address)
        n_elements = math.prod(output.spec.shape)
        self._count(f"outside_limits_{suffix}", values, *map(_f32, limits), n=n_elements)

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
