"""A CUDA device through the driver: its stream, memory, events, kernels and graphs.

It shares the primary context with TVM, whose kernels go to our stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from effcompile.measure import dlpack
from effcompile.measure.cuda_driver import checked, driver
from effcompile.measure.cuda_facts import format_uuid
from effcompile.measure.cuda_memory import CudaMemory

_NOT_READY = 600


class CudaDevice:
    """One GPU with its primary context current in this thread.

    Args:
        index: Ordinal among the visible devices.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = driver()
        self.dlpack_device = (dlpack.CUDA, index)
        checked(self._cuda.cuInit(0))
        self._device = checked(self._cuda.cuDeviceGet(index))
        context = checked(self._cuda.cuDevicePrimaryCtxRetain(self._device))
        checked(self._cuda.cuCtxSetCurrent(context))
        flags = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.stream = checked(self._cuda.cuStreamCreate(flags))

    @property
    def uuid(self) -> str:
        """The id that management tools use; ordinals differ between them and CUDA."""
        return format_uuid(bytes(checked(self._cuda.cuDeviceGetUuid(self._device)).bytes)[:16])

    def allocate(self, size_bytes: int) -> CudaMemory:
        """See ``memory.Device``."""
        return CudaMemory(size_bytes, self.stream)

    def free_bytes(self) -> int:
        """Memory that nobody has."""
        _, free, _ = self._cuda.cuMemGetInfo()
        return int(free)

    def load_functions(self, cubin: bytes) -> CudaFunctions:
        """The kernels of an ELF image."""
        return CudaFunctions(checked(self._cuda.cuModuleLoadData(cubin)), self.stream)

    def synchronise(self) -> None:
        """See ``memory.Device``."""
        checked(self._cuda.cuCtxSynchronize())

    def take_over_stream(self) -> None:
        """Send TVM's launches of this thread to our stream from now on."""
        import tvm
        import tvm_ffi

        tvm_ffi.use_raw_stream(tvm.cuda(self.dlpack_device[1]), int(self.stream)).__enter__()

    @contextlib.contextmanager
    def capturing(self) -> Iterator[list[Any]]:
        """Record launches into a graph, which stands in the list afterwards."""
        graphs: list[Any] = []
        # Relaxed: a first launch may allocate workspace, which stricter modes forbid.
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        checked(self._cuda.cuStreamBeginCapture(self.stream, mode))
        try:
            yield graphs
        finally:
            status, graph = self._cuda.cuStreamEndCapture(self.stream)
            if int(status) == 0:
                graphs.append(graph)

    def event(self) -> Any:
        """A new timing event."""
        return checked(self._cuda.cuEventCreate(0))

    def record(self, event: Any) -> None:
        """Put an event into the stream."""
        checked(self._cuda.cuEventRecord(event, self.stream))

    def has_passed(self, event: Any) -> bool:
        """Whether the device has reached an event."""
        (status,) = self._cuda.cuEventQuery(event)
        if int(status) == _NOT_READY:
            return False
        checked((status,))
        return True

    def wait_for(self, event: Any) -> None:
        """Wait until the device has reached an event."""
        checked(self._cuda.cuEventSynchronize(event))

    def elapsed_us(self, start: Any, end: Any) -> float:
        """Device time between two events that have passed."""
        return float(checked(self._cuda.cuEventElapsedTime(start, end))) * 1000

    def instantiate(self, graph: Any, n_copies: int = 1) -> list[Any]:
        """Make a captured graph launchable, several times; the graph itself is given back."""
        copies = [checked(self._cuda.cuGraphInstantiate(graph, 0)) for _ in range(n_copies)]
        checked(self._cuda.cuGraphDestroy(graph))
        return copies

    def launch_graph(self, executable: Any) -> None:
        """Put a whole graph into the stream."""
        checked(self._cuda.cuGraphLaunch(executable, self.stream))

    def destroy_graph(self, executable: Any) -> None:
        """Give a launchable graph back."""
        with contextlib.suppress(Exception):
            self._cuda.cuGraphExecDestroy(executable)


class CudaFunctions:
    """Kernels of our own that the driver has loaded.

    Args:
        module: The driver's handle.
        stream: Where they are launched.
    """

    def __init__(self, module: Any, stream: Any) -> None:
        self._cuda = driver()
        self._module = module
        self._stream = stream
        self._functions: dict[str, Any] = {}

    def launch(self, name: str, arguments: Sequence[Any], *, n_blocks: int, n_threads: int) -> None:
        """Put a kernel into the stream.

        Args:
            name: Symbol of the kernel.
            arguments: ``ctypes`` scalars in the order of its parameters.
            n_blocks: Along x.
            n_threads: Per block, along x.
        """
        if name not in self._functions:
            found = self._cuda.cuModuleGetFunction(self._module, name.encode())
            self._functions[name] = checked(found)
        values = tuple(argument.value for argument in arguments)
        types = tuple(type(argument) for argument in arguments)
        grid, block = (n_blocks, 1, 1), (n_threads, 1, 1)
        checked(
            self._cuda.cuLaunchKernel(
                self._functions[name], *grid, *block, 0, self._stream, (values, types), 0
            )
        )
