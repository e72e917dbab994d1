"""Builds of packed products on all cores at once, and their results on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.config import BuildConfig
from effcompile.measure.builder import ProcessBuilder
from schedules.inputs import make_data
from schedules.knobs import KnobSpace
from schedules.reference import compare, tolerance_of
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build, Failure

N_RANDOM = 6


class Kernels:
    """Random points of every workload, and calls of them.

    Args:
        folder: For builds.
        workloads: What to compute.
        space_of: Opens the family's space of a task.
        plain: A point that is built as well where it is legal.
    """

    def __init__(
        self,
        folder: Path,
        workloads: Sequence[Workload],
        space_of: Callable[[Task], KnobSpace],
        plain: Mapping[str, int | str] | None = None,
    ) -> None:
        from effcompile.measure.environment import detect_target

        self._target = detect_target("cuda")
        settings = BuildConfig(cache_dir=str(folder / "cache"))
        self._builder = ProcessBuilder(settings, work_dir=folder)
        self._rng = np.random.default_rng(0)
        self._space_of, self._plain = space_of, plain
        self.workloads = workloads
        self.builds = [self._submit(workload) for workload in workloads]

    def _submit(self, workload: Workload) -> list[tuple[dict[str, Any], Future[Build | Failure]]]:
        task = Task(workload=workload, target=self._target)
        space = self._space_of(task)
        # Evenly from all points: samples may prefer what promises to be fast.
        chosen = [space.points[i] for i in self._rng.permutation(len(space.points))[:N_RANDOM]]
        if self._plain is not None and space.refusal(self._plain) is None:
            chosen.append(dict(self._plain))
        return [(one, self._builder.submit(task, space.candidate(one))) for one in chosen]

    def close(self) -> None:
        self._builder.close()

    def faults(self, index: int) -> list[str]:
        """What is wrong with the points of a workload, once all are built."""
        from effcompile.measure.session import load_runtime

        workload = self.workloads[index]
        data = make_data(workload, 3)
        builds = [(values, future.result()) for values, future in self.builds[index]]
        load_runtime("cuda")
        import tvm

        device = tvm.cuda(0)
        inputs = [tvm.runtime.empty(one.shape, one.dtype, device) for one in workload.inputs]
        for tensor, array in zip(inputs, data.inputs, strict=True):
            tensor.copyfrom(np.ascontiguousarray(array))
        faults = []
        for values, build in builds:
            assert isinstance(build, Build), (values, build)
            outputs = [tvm.runtime.empty(one.shape, one.dtype, device) for one in workload.outputs]
            tvm.runtime.load_module(build.library_path)["main"](*inputs, *outputs)
            device.sync()
            for y, reference in zip(outputs, data.references, strict=True):
                fault = described(y.numpy(), reference.values, workload)
                if fault is not None:
                    faults.append(f"{values}: {fault}")
        return faults


def described(found: np.ndarray, expected: np.ndarray, workload: Workload) -> str | None:
    """Where the first elements differ, and the ratios of the first few."""
    fault = compare(found, expected, tolerance_of(workload))
    if fault is None:
        return None
    got, wanted = found.astype(np.float64).reshape(-1), expected.reshape(-1)
    wrong = np.flatnonzero(np.abs(got - wanted) > 0.05 * np.abs(expected).max())[:8]
    return f"{fault}; first found {got[wrong]}, expected {wanted[wrong]}, at {wrong}"
