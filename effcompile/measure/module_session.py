"""Whole compiled modules in the device process: loaded, timed, measured.

A module is what users run, so it goes through the public runtime, parameters and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.measure import timing
from effcompile.measure.session import Session
from effcompile.signature import ArgumentSpec
from schedules.dtypes import numpy_dtype
from search.trial import EnergyMeasurement, LatencyMeasurement


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRequest:
    """One entry point of one artifact.

    Attributes:
        path: The artifact.
        entry: Name of the entry point.
        inputs: Names, shapes, dtypes.
        folder: Holds the inputs as raw bytes.
    """

    path: str
    entry: str
    inputs: tuple[ArgumentSpec, ...]
    folder: str


def write_inputs(inputs: list[np.ndarray], folder: Path) -> tuple[ArgumentSpec, ...]:
    """Store inputs for the device process and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(inputs):
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        np.save(folder / f"input-{index}.npy", raw)
    return tuple(
        ArgumentSpec(name=f"input-{index}", shape=array.shape, dtype=array.dtype.name)
        for index, array in enumerate(inputs)
    )


class ModuleSession:
    """Modules on the device of a session.

    Args:
        session: Has the device open, with stopwatch and meter.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._launches: dict[tuple[str, str], timing.Launch] = {}

    def time(self, request: ModuleRequest) -> LatencyMeasurement:
        """Latency of one call."""
        return self._session.time_launches([self._launch(request)])

    def energy(self, request: ModuleRequest) -> EnergyMeasurement:
        """Energy of one call under sustained load."""
        return self._session.energy_of([self._launch(request)])

    def _launch(self, request: ModuleRequest) -> timing.Launch:
        key = (request.path, request.entry)
        if key not in self._launches:
            self._launches[key] = self._load(request)
        return self._launches[key]

    def _load(self, request: ModuleRequest) -> timing.Launch:
        from effcompile.runtime import load

        module: Any = load(request.path)
        launch: timing.Launch = module.device_call(request.entry, _read_inputs(request))
        # Allocates and loads what later calls reuse.
        launch()
        self._session.synchronise()
        return launch


def _read_inputs(request: ModuleRequest) -> list[np.ndarray]:
    arrays = []
    for index, spec in enumerate(request.inputs):
        raw = np.load(Path(request.folder) / f"input-{index}.npy")
        arrays.append(raw.view(numpy_dtype(spec.dtype)).reshape(spec.shape))
    return arrays
