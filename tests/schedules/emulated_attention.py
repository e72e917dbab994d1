"""Attention emulated on the CPU, against its reference in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schedules.cuda_kernel import CudaLaunch
from schedules.expected import Reference
from schedules.references.attention import make, reference
from schedules.workload import Workload
from tests.schedules.cuda_emulation import computed
from tests.schedules.decode_workloads import Decode
from tests.schedules.masked_workloads import Masked


def assert_attends(
    launch: CudaLaunch,
    shape: Decode | Masked,
    workload: Workload,
    folder: Path,
    *,
    tolerance: float,
    hides_rows: bool = False,
) -> None:
    """A launch computes what the workload of a shape says.

    Args:
        launch: Of the workload.
        shape: What it was made of.
        workload: Of the shape.
        folder: For source and library.
        tolerance: Absolute, and of the value.
        hides_rows: Whether a mask of floats hides some, most or all keys of rows by minus infinity
            or the least number.
    """
    rng = np.random.default_rng(0)
    inputs = shape.inputs(0) if isinstance(shape, Masked) else make(workload, rng)
    if hides_rows:
        mask = inputs[3]
        mask[0, 0, 2, :40], mask[0, 0, 3], mask[0, 0, 4, ::2] = -np.inf, -np.inf, -np.inf
        mask[0, 0, 5], mask[0, 0, 6, 1:] = [np.finfo(np.float32).min] * 2
    found = computed([launch], workload, inputs, folder)
    (wanted,) = reference(workload, inputs)
    assert isinstance(wanted, Reference)
    np.testing.assert_allclose(found, wanted.values, rtol=tolerance, atol=tolerance)
