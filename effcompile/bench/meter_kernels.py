"""Kernels of known character to look at an energy meter with: memory-bound and arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.config import BuildConfig, MeasureConfig
from effcompile.errors import MeterUnavailable
from effcompile.measure import anchor, known_kernel
from effcompile.measure.arguments import place
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.meters import NoMeter
from effcompile.measure.preparer import Preparer
from effcompile.measure.session import Session
from effcompile.measure.timing import Launch
from schedules import _tvm
from schedules.candidate import Candidate
from schedules.inputs import make_inputs
from schedules.programs import workload_of
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build, EnergyMeasurement

COPY_ELEMENTS, MATRIX, TENSOR_MATRIX = 1 << 24, 1024, 2048
KERNELS = ("copy", "matmul")
"""Well below the power limit of the GPUs at hand."""

CAPPED = "tensor product"
"""More than the power limit allows, where the GPU has its family."""

_FAST = {
    "orientation": "straight",
    "tile_row": 128,
    "tile_column": 128,
    "multipliers": 2,
    "stages": 6,
    "blocks_per_core": 1,
    "group": 8,
    "splits": 1,
    "cluster": 1,
    "blocks": "persistent",
}


def workloads() -> dict[str, tuple[Workload, Candidate]]:
    """Bound by memory, and by arithmetic."""
    _tvm.load()
    from tvm import te

    x = te.placeholder((COPY_ELEMENTS,), name="x", dtype="float32")
    copy = te.compute(x.shape, lambda i: x[i] * 2.0, name="y")
    a = te.placeholder((MATRIX, MATRIX), name="a", dtype="float32")
    b = te.placeholder((MATRIX, MATRIX), name="b", dtype="float32")
    k = te.reduce_axis((0, MATRIX), name="k")
    product = te.compute((MATRIX, MATRIX), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    found = {
        "copy": workload_of(te.create_prim_func([x, copy]), name="copy"),
        "matmul": workload_of(te.create_prim_func([a, b, product]), name="matmul"),
    }
    return {name: (one, Candidate(space="default", decisions="{}")) for name, one in found.items()}


def _tensor_product() -> tuple[Workload, Candidate]:
    from tvm import te, tirx

    extent = TENSOR_MATRIX
    a, b = (te.placeholder((extent, extent), name=name, dtype="float16") for name in "ab")
    k = te.reduce_axis((0, extent), name="k")
    sums = te.compute(
        (extent, extent),
        lambda i, j: te.sum(tirx.Cast("float32", a[i, k]) * tirx.Cast("float32", b[k, j]), axis=k),
        name="sums",
    )
    result = te.compute(sums.shape, lambda i, j: tirx.Cast("float16", sums[i, j]), name="c")
    workload = workload_of(te.create_prim_func([a, b, result]), name="matmul")
    return workload, Candidate(space="matmul", decisions=json.dumps(_FAST, separators=(",", ":")))


def built_kernels(
    target: Target, folder: Path
) -> dict[str, tuple[Workload, str, list[np.ndarray]]]:
    """Every kernel with its library and inputs, compiled in processes without the device."""
    preparer = Preparer(target, seed=0, work_dir=folder, cache_dir=str(folder / "cache"))
    builder = ProcessBuilder(
        BuildConfig(n_workers=2, cache_dir=str(folder / "cache")), work_dir=folder
    )
    kernels: dict[str, tuple[Workload, str, list[np.ndarray]]] = {}
    try:
        wanted = workloads()
        if target.arch == "sm_90":
            wanted[CAPPED] = _tensor_product()
        futures = {
            name: (one, builder.submit(Task(workload=one, target=target), candidate))
            for name, (one, candidate) in wanted.items()
        }
        known = (known_kernel.known_workload(), preparer.tools().known_library)
        kernels["tiny"] = (*known, [known_kernel.known_input()])
        fixed = (anchor.anchor_workload(target), preparer.anchor().library_path)
        kernels["anchor"] = (*fixed, [anchor.anchor_input(target)])
        for name, (workload, future) in futures.items():
            build = future.result()
            assert isinstance(build, Build), build
            kernels[name] = (workload, build.library_path, make_inputs(workload, 0))
    finally:
        builder.close()
        preparer.close()
    return kernels


class MeterBench:
    """A session on the GPU and the launches of every kernel.

    Args:
        target: The GPU.
        folder: For libraries and logs.

    Raises:
        MeterUnavailable: Its energy cannot be read.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        kernels = built_kernels(target, folder)
        # Only the windows asked for: anchors are taken by hand.
        self._config = MeasureConfig(meter="nvml", anchor_every=0, energy_precision=0.0)
        self.session: Any = Session(target, self._config)
        if isinstance(self.session.meter, NoMeter):
            raise MeterUnavailable(self.session.meter.reason)
        self.meter = self.session.meter
        self.device: Any = self.session._device
        self.anchor_library = kernels["anchor"][1]
        self.launches: dict[str, list[Launch]] = {}
        for name, (workload, library, inputs) in kernels.items():
            arguments = place(self.device, workload, inputs)
            self.launches[name] = [self.session._launcher(library, arguments)]
            self.session._first_launch(self.launches[name])

    def window(self, name: str, window_ms: float, precision: float = 0.0) -> EnergyMeasurement:
        """One energy window as candidates get it."""
        self.session._config = replace(
            self._config, energy_window_ms=window_ms, energy_precision=precision
        )
        found: EnergyMeasurement = self.session.energy_of(self.launches[name])
        return found
