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

from schedules.dtypes import is_float, numpy_dtype
from schedules.expected import Reference
from schedules.reference import Tolerance, allowed_error, scale_of
from schedules.workload import TensorSpec, Workload

FACTS = "facts.json"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one output is compared with.

    Attributes:
        reference: What it must be.
        scale: Root mean square of the reference.
        lowest: Least right value of every element, float32, rounded inwards; flat, empty
            where the output does not hold floats.
        highest: Greatest right value, likewise: what lies between is right, what does not
            needs a closer look.
    """

    reference: Reference
    scale: float
    lowest: np.ndarray
    highest: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether NaN, or an infinity, can never be right."""
        return bool(self.lowest.size) and bool(np.isfinite(self.reference.values).all())

    @property
    def hides_poison(self) -> bool:
        """Whether an element that was never written may pass for a result."""
        return not self.reference.is_whole and not self.is_finite


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a kernel is checked with.

    Attributes:
        inputs: One array per input, in call order.
        outputs: One expectation per output.
        tolerance: How far an element may be from its reference.
    """

    inputs: list[np.ndarray]
    outputs: list[Expectation]
    tolerance: Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The small part of a prepared folder.

    Attributes:
        tolerance: See :class:`Prepared`.
        scales: Per output.
        limits: Per output, see ``Reference``.
        n_rows: Per output, sampled rows; ``None`` where every element is known.
    """

    tolerance: Tolerance
    scales: list[float]
    limits: list[tuple[float, float]]
    n_rows: list[int | None]


def folder_of(workload: Workload, *, seed: int, root: Path) -> Path:
    """Where inputs and references of a workload lie."""
    return root / f"{workload.workload_id}-{seed}"


def write_prepared(workload: Workload, *, seed: int, folder: Path) -> None:
    """Compute and store inputs and references; does nothing if they are there."""
    from schedules.inputs import make_data
    from schedules.reference import tolerance_of

    if folder.is_dir():
        return
    data = make_data(workload, seed)
    tolerance = tolerance_of(workload)
    outputs = [
        expectation_of(reference, tolerance, dtype=spec.dtype)
        for reference, spec in zip(data.references, workload.outputs, strict=True)
    ]
    _write(Prepared(inputs=data.inputs, outputs=outputs, tolerance=tolerance), folder)


def _write(prepared: Prepared, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        for index, array in enumerate(prepared.inputs):
            _save(beside / f"input-{index}.npy", array)
        for index, output in enumerate(prepared.outputs):
            _save(beside / f"reference-{index}.npy", output.reference.values)
            _save(beside / f"lowest-{index}.npy", output.lowest)
            _save(beside / f"highest-{index}.npy", output.highest)
            if output.reference.rows is not None:
                _save(beside / f"rows-{index}.npy", output.reference.rows)
        (beside / FACTS).write_bytes(msgspec.json.encode(_facts(prepared)))
        # Another process may have been faster; its folder has the same content.
        with contextlib.suppress(OSError):
            os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _facts(prepared: Prepared) -> Facts:
    references = [output.reference for output in prepared.outputs]
    return Facts(
        tolerance=prepared.tolerance,
        scales=[output.scale for output in prepared.outputs],
        limits=[reference.limits for reference in references],
        n_rows=[None if one.rows is None else len(one.rows) for one in references],
    )


def expectation_of(reference: Reference, tolerance: Tolerance, *, dtype: str) -> Expectation:
    """What an output of a dtype is compared with."""
    scale = scale_of(reference.values)
    if is_float(dtype):
        lowest, highest = bounds_of(reference.values, tolerance, scale)
    else:
        lowest = highest = np.empty(0, np.float32)
    return Expectation(reference=reference, scale=scale, lowest=lowest, highest=highest)


def bounds_of(
    reference: np.ndarray, tolerance: Tolerance, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest right values, flat, float32; an empty range where nothing is certain."""
    flat = reference.reshape(-1)
    lowest, highest = np.empty(flat.size, np.float32), np.empty(flat.size, np.float32)
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        wide = flat[part].astype(np.float64, copy=False)
        allowed = allowed_error(wide, tolerance, scale)
        with np.errstate(invalid="ignore", over="ignore"):
            lowest[part] = np.nextafter((wide - allowed).astype(np.float32), np.float32(np.inf))
            highest[part] = np.nextafter((wide + allowed).astype(np.float32), np.float32(-np.inf))
        unsure = ~np.isfinite(wide)
        lowest[part][unsure], highest[part][unsure] = np.inf, -np.inf
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
    facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=Facts)
    inputs = [
        _load(folder / f"input-{index}.npy").view(numpy_dtype(spec.dtype)).reshape(spec.shape)
        for index, spec in enumerate(workload.inputs)
    ]
    outputs = [
        Expectation(
            reference=_read_reference(folder, index, spec, facts),
            scale=facts.scales[index],
            lowest=_load(folder / f"lowest-{index}.npy").view(np.float32),
            highest=_load(folder / f"highest-{index}.npy").view(np.float32),
        )
        for index, spec in enumerate(workload.outputs)
    ]
    return Prepared(inputs=inputs, outputs=outputs, tolerance=facts.tolerance)


def _read_reference(folder: Path, index: int, spec: TensorSpec, facts: Facts) -> Reference:
    dtype = np.dtype(np.float64) if is_float(spec.dtype) else numpy_dtype(spec.dtype)
    values = _load(folder / f"reference-{index}.npy").view(dtype)
    n_rows = facts.n_rows[index]
    if n_rows is None:
        return Reference(values=values.reshape(spec.shape))
    rows = np.array(_load(folder / f"rows-{index}.npy").view(np.int64))
    return Reference(
        values=values.reshape(n_rows, spec.shape[-1]), rows=rows, limits=facts.limits[index]
    )


def _load(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r"))
