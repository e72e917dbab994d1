"""Launches put into a CUDA stream together: once and timed, or again and again without gaps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from effcompile.measure.cuda_device import CudaDevice
from effcompile.measure.timing import Launch

MAX_GRAPH_NODES = 2000
# While one copy of a graph runs, the next is made ready.
GRAPH_COPIES = 2


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
