"""A CUDA device through the driver: memory, stream, launches as a replayed graph.

Used by the device process alone. It shares the primary context with TVM, whose kernels
go to our stream. The driver bindings are imported here and nowhere else.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from effcompile.errors import DeviceFault, DeviceUnavailable
from effcompile.measure import dlpack
from effcompile.measure.cuda_facts import format_uuid
from effcompile.measure.timing import Launch

MAX_GRAPH_NODES = 2000
# While one copy of a graph runs, the next is made ready.
GRAPH_COPIES = 2
_OUT_OF_MEMORY = 2
_NOT_READY = 600


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError:
        raise DeviceUnavailable(
            "the CUDA driver bindings are not installed. Install: pip install effcompile[cuda]"
        ) from None
    return driver


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a driver call.

    Raises:
        MemoryError: The device is out of memory.
        DeviceFault: Any other error; the context may be unusable from now on.
    """
    status = result[0]
    if int(status) == _OUT_OF_MEMORY:
        raise MemoryError("the CUDA device is out of memory.")
    if int(status) != 0:
        raise DeviceFault(f"the CUDA driver reports {status.name}.")
    return result[1] if len(result) > 1 else None


class CudaMemory:
    """Device memory; see ``memory.Memory``.

    Everything goes through the stream of the kernels: they do not wait for another one.

    Args:
        size_bytes: At least 1.
        stream: The device's.
    """

    def __init__(self, size_bytes: int, stream: Any) -> None:
        self._cuda = _driver()
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


class CudaDevice:
    """One GPU with its primary context current in this thread.

    Args:
        index: Ordinal among the visible devices.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = _driver()
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
        self._cuda = _driver()
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


class CudaBatch:
    """Launches put into the stream together, as a graph if the kernel can be captured.

    Args:
        device: Where to.
        launches: Gone through in turn.
        n_launches: How many, at least.
        n_copies: Copies of the graph that take turns. A graph that still runs cannot be
            made ready for its next launch: with one copy the device waits between two.
        max_nodes: Most launches in one graph.
    """

    def __init__(
        self,
        device: CudaDevice,
        launches: Sequence[Launch],
        n_launches: int,
        *,
        n_copies: int = 1,
        max_nodes: int = MAX_GRAPH_NODES,
    ) -> None:
        self._device = device
        self._launches = launches
        # Whole rounds over the buffer sets, so that replays keep rotating.
        n_rounds = math.ceil(n_launches / len(launches))
        per_graph = max(1, min(n_rounds, max_nodes // len(launches)))
        self._n_rounds = per_graph
        self._n_replays = math.ceil(n_rounds / per_graph)
        self.n_launches = self._n_rounds * len(launches) * self._n_replays
        self._graphs = self._capture(n_copies)
        self._next = 0
        self.method = "graph" if self._graphs else "queue"
        self._start, self._end = device.event(), device.event()

    def _capture(self, n_copies: int) -> list[Any]:
        """The launches as graphs; none for kernels that synchronise or copy."""
        try:
            with self._device.capturing() as graphs:
                self._launch_all()
        except Exception:
            # Whatever the kernel did, the capture has ended; the plain queue shows real faults.
            return []
        return self._device.instantiate(graphs[0], n_copies) if graphs else []

    def _launch_all(self) -> None:
        for _ in range(self._n_rounds):
            for launch in self._launches:
                launch()

    def enqueue(self) -> None:
        """Put all launches into the stream and return."""
        for _ in range(self._n_replays):
            if self._graphs:
                self._device.launch_graph(self._graphs[self._next])
                self._next = (self._next + 1) % len(self._graphs)
            else:
                self._launch_all()

    def run_us(self) -> float:
        """See ``timing.Batch``."""
        self._device.record(self._start)
        self.enqueue()
        self._device.record(self._end)
        self._device.wait_for(self._end)
        return self._device.elapsed_us(self._start, self._end)

    def __del__(self) -> None:
        for graph in getattr(self, "_graphs", ()):
            self._device.destroy_graph(graph)


class CudaStopwatch:
    """Times launches by device events; see ``timing.Stopwatch``."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device

    def batch(self, launches: Sequence[Launch], n_launches: int) -> CudaBatch:
        """See ``timing.Stopwatch``."""
        return CudaBatch(self._device, launches, n_launches)


class CudaLoad:
    """Keeps the device busy without gaps; see ``energy.Load``.

    Args:
        device: Where to.
        batch: What to repeat; a few milliseconds long.
        depth: Batches queued ahead, enough to outlast one reading of the meter, which takes 3 ms;
            what is still queued when a window has closed is waited for.
    """

    def __init__(self, device: CudaDevice, batch: CudaBatch, *, depth: int = 4) -> None:
        self._device = device
        self._batch = batch
        self._spare = [device.event() for _ in range(depth + 1)]
        self._pending: deque[Any] = deque()
        self._last = self._spare.pop()
        device.record(self._last)
        self.n_launches = 0
        self.busy_us = 0.0

    def advance(self) -> None:
        """Count what has finished and queue as much again."""
        while self._pending and self._device.has_passed(self._pending[0]):
            event = self._pending.popleft()
            self.busy_us += self._device.elapsed_us(self._last, event)
            self.n_launches += self._batch.n_launches
            self._spare.append(self._last)
            self._last = event
        while self._spare:
            self._batch.enqueue()
            event = self._spare.pop()
            self._device.record(event)
            self._pending.append(event)

    def finish(self) -> None:
        """Wait until nothing is queued any more."""
        self._device.synchronise()


def back_to_back(device: CudaDevice, launches: Sequence[Launch], n_launches: int) -> CudaLoad:
    """A load that goes through ``launches`` in turn, ``n_launches`` to a batch, without gaps."""
    return CudaLoad(device, CudaBatch(device, launches, n_launches, n_copies=GRAPH_COPIES))
