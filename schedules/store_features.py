"""Numbers of a scheduled program: TVM's per-store features, launch geometry, counts."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.analysis import THREAD_BINDING
from schedules.counts import flops_of, unique_bytes_of
from schedules.task import Task

STORE_COLUMNS = 164
LAUNCH_TAGS = (
    "blockIdx.x",
    "blockIdx.y",
    "blockIdx.z",
    "threadIdx.x",
    "threadIdx.y",
    "threadIdx.z",
)
EXTRA_COLUMNS = len(LAUNCH_TAGS) + 5


class StoreFeatures:
    """Feature rows of one task.

    A program has one row of 164 columns per store; their sum says how much of everything
    there is, their maximum what dominates. Behind them: log2 of the launch extents, of
    blocks, threads per block, kernels, operations and unique bytes.
    """

    n_columns = 2 * STORE_COLUMNS + EXTRA_COLUMNS

    def __init__(self, task: Task) -> None:
        from tvm.s_tir import meta_schedule as ms

        self._context = ms.TuneContext(target=_tvm.tvm_target(task.target), num_threads=1)
        self._extractor = ms.feature_extractor.PerStoreFeature()
        self._counts = [
            float(np.log2(1.0 + (flops_of(task.workload) or 0.0))),
            float(np.log2(1.0 + unique_bytes_of(task.workload))),
        ]

    def row(self, schedule: Any) -> np.ndarray:
        """Features of one schedule, float32, shape (n_columns,)."""
        from tvm.s_tir import meta_schedule as ms

        candidate = ms.search_strategy.MeasureCandidate(
            schedule, ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
        )
        stores = self._extractor.extract_from(self._context, [candidate])[0].numpy()
        stores = stores if len(stores) else np.zeros((1, STORE_COLUMNS))
        launches = _launches(schedule)
        row = [*stores.sum(axis=0), *stores.max(axis=0), *_geometry(launches), *self._counts]
        return np.nan_to_num(np.asarray(row, dtype=np.float32))


def _launches(schedule: Any) -> list[dict[str, int]]:
    """Extents of the bound loops, one dictionary per nest below the root."""
    # Past the wrappers that check argument types at every call: they take as long as all the rest.
    from tvm.s_tir.schedule import _ffi_api

    launches = []
    for nest in schedule.get_child_blocks(schedule.get_sblock("root")):
        extents: dict[str, int] = {}
        for loop_rv in _ffi_api.ScheduleGetLoops(schedule, nest):
            loop = _ffi_api.ScheduleGet(schedule, loop_rv)
            if int(loop.kind) == THREAD_BINDING:
                extents[str(loop.thread_binding.thread_tag)] = int(loop.extent)
        launches.append(extents)
    return launches


def _geometry(launches: list[dict[str, int]]) -> list[float]:
    most = [max((launch.get(tag, 1) for launch in launches), default=1) for tag in LAUNCH_TAGS]
    n_bound = sum(1 for launch in launches if launch)
    sizes = [*most, prod(most[:3]), prod(most[3:]), 1 + n_bound]
    return [float(np.log2(size)) for size in sizes]
