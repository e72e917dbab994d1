"""Threads of a row of a CUDA softmax combining one number: lanes, warps, blocks of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedules.cuda_kernel import device_code, once
from schedules.softmax_rows import CudaSchedule

WARP = 32
FULL_WARP = 0xFFFFFFFF

Combine = Callable[[Any, Any], Any]


class RowThreads:
    """Emits reductions over all threads of a row; every thread gets the outcome.

    Call ``enter``, then ``maximum``, ``sum`` and ``leave`` once each: blocks of a cluster read each
    other's memory, so none may end early.
    """

    def __init__(self, tir: Any, schedule: CudaSchedule) -> None:
        self._tir, self._schedule = tir, schedule
        n_warps = schedule.rows_per_block * max(1, schedule.threads_per_row // WARP)
        self._partial_maxima, self._partial_sums = (
            tir.sblock_alloc_buffer((n_warps,), "float32", scope="shared") for _ in range(2)
        )

    def enter(self, row_lane: Any, lane: Any) -> None:
        """Which thread this is: its row within the block, and its lane within the row."""
        self._row_lane, self._lane = row_lane, lane

    def maximum(self, value: Any) -> None:
        """Replace one register by the maximum."""
        self._over_block(value, self._partial_maxima, self._tir.max)
        self._over_cluster(value, "cluster_max")

    def sum(self, value: Any) -> None:
        """Replace one register by the sum."""
        self._over_block(value, self._partial_sums, lambda a, b: a + b)
        self._over_cluster(value, "cluster_sum")

    def leave(self) -> None:
        """Wait until no other block reads from this one."""
        if self._schedule.blocks_per_row > 1:
            self._tir.evaluate(_call("cluster_end"))

    def _over_block(self, value: Any, partials: Any, combine: Combine) -> None:
        tir, threads = self._tir, self._schedule.threads_per_row
        self._over_lanes(value, min(threads, WARP), combine)
        if threads <= WARP:
            return
        n_warps = threads // WARP
        first = self._row_lane * n_warps
        with tir.If(self._lane % WARP == 0), tir.Then():
            tir.buffer_store(partials, value[0], [first + self._lane // WARP])
        tir.evaluate(tir.tvm_storage_sync("shared"))
        tir.buffer_store(value, partials[first + self._lane % n_warps], [0])
        self._over_lanes(value, n_warps, combine)

    def _over_lanes(self, value: Any, n_lanes: int, combine: Combine) -> None:
        tir, distance = self._tir, n_lanes // 2
        while distance:
            other = tir.tvm_warp_shuffle_xor(tir.uint32(FULL_WARP), value[0], distance, WARP, WARP)
            tir.buffer_store(value, combine(value[0], other), [0])
            distance //= 2

    def _over_cluster(self, value: Any, function: str) -> None:
        n_blocks = self._schedule.blocks_per_row
        if n_blocks > 1:
            combined = _call(function, value[0], n_blocks, result="float32")
            self._tir.buffer_store(value, combined, [0])


def _call(function: str, *arguments: Any, result: str = "void") -> Any:
    from tvm.backend.cuda.op import cuda_func_call

    source = f"\n{once(device_code('cluster.cuh'))}\n"
    return cuda_func_call(function, *arguments, source_code=source, return_type=result)
