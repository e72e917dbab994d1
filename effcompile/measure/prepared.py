"""Inputs and references of a workload on disk, written once, memory-mapped by the worker.

Only processes with a compiler can compute references; only the device process needs
them. A folder is written beside its place and renamed, so it is whole or absent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from schedules.inputs import numpy_dtype
from schedules.reference import Tolerance, allowed_error, scale_of
from schedules.workload import Workload

TOLERANCE = "tolerance.json"
SCALES = "scales.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a kernel is checked with.

    Attributes:
        inputs: One array per input, in call order.
        references: One float64 (or integer) array per output.
        tolerance: How far an element may be from its reference.
        scales: Per output, the root mean square of its reference.
        bounds: Per output, float32 arrays of lowest and highest right values, rounded
            inwards: what lies between them is right, what does not needs a closer look.
    """

    inputs: list[np.ndarray]
    references: list[np.ndarray]
    tolerance: Tolerance
    scales: list[float]
    bounds: list[tuple[np.ndarray, np.ndarray]]


def folder_of(workload: Workload, *, seed: int, root: Path) -> Path:
    """Where inputs and references of a workload lie."""
    return root / f"{workload.workload_id}-{seed}"


def write_prepared(workload: Workload, *, seed: int, folder: Path) -> None:
    """Compute and store inputs and references; does nothing if they are there."""
    from schedules.inputs import make_inputs
    from schedules.reference import compute_reference, tolerance_of

    if folder.is_dir():
        return
    inputs = make_inputs(workload, seed)
    references = compute_reference(workload, inputs)
    tolerance = tolerance_of(workload)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        for index, array in enumerate(inputs):
            _save(beside / f"input-{index}.npy", array)
        scales = [scale_of(array) for array in references]
        for index, (array, scale) in enumerate(zip(references, scales, strict=True)):
            _save(beside / f"reference-{index}.npy", array)
            lowest, highest = bounds_of(array, tolerance, scale)
            _save(beside / f"lowest-{index}.npy", lowest)
            _save(beside / f"highest-{index}.npy", highest)
        (beside / TOLERANCE).write_bytes(msgspec.json.encode(tolerance))
        (beside / SCALES).write_bytes(msgspec.json.encode(scales))
        # Another process may have been faster; its folder has the same content.
        with contextlib.suppress(OSError):
            os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def bounds_of(
    reference: np.ndarray, tolerance: Tolerance, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest right values in float32; an empty range where nothing is certain."""
    wide = reference.astype(np.float64, copy=False)
    allowed = allowed_error(wide, tolerance, scale)
    with np.errstate(invalid="ignore", over="ignore"):
        lowest = np.nextafter((wide - allowed).astype(np.float32), np.float32(np.inf))
        highest = np.nextafter((wide + allowed).astype(np.float32), np.float32(-np.inf))
    unsure = ~np.isfinite(wide)
    lowest[unsure], highest[unsure] = np.inf, -np.inf
    return lowest, highest


def _save(path: Path, array: np.ndarray) -> None:
    # NumPy's format does not know the short floats: bytes go in, the workload has the dtype.
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    # Not synced: after a power failure the folder is made again.
    np.save(path, raw)


def read_prepared(workload: Workload, *, folder: Path) -> Prepared:
    """Map the arrays of a workload; pages are read when they are used.

    Raises:
        OSError: A file is missing.
        ValueError: A file does not have the size its workload says.
    """
    inputs = [
        _load(folder / f"input-{index}.npy").view(numpy_dtype(spec.dtype)).reshape(spec.shape)
        for index, spec in enumerate(workload.inputs)
    ]
    references = []
    for index, spec in enumerate(workload.outputs):
        dtype = numpy_dtype(spec.dtype)
        wide = dtype if dtype.kind in "iub" else np.dtype(np.float64)
        references.append(_load(folder / f"reference-{index}.npy").view(wide).reshape(spec.shape))
    tolerance = msgspec.json.decode((folder / TOLERANCE).read_bytes(), type=Tolerance)
    bounds = [
        (
            _load(folder / f"lowest-{index}.npy").view(np.float32).reshape(spec.shape),
            _load(folder / f"highest-{index}.npy").view(np.float32).reshape(spec.shape),
        )
        for index, spec in enumerate(workload.outputs)
    ]
    return Prepared(
        inputs=inputs,
        references=references,
        tolerance=tolerance,
        scales=msgspec.json.decode((folder / SCALES).read_bytes(), type=list[float]),
        bounds=bounds,
    )


def _load(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r"))
