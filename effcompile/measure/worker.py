"""Device process: the only one that touches the device while tuning.

Run as ``python -m effcompile.measure.worker``. It trusts nothing it loads: the parent
kills and restarts it after any fault.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from effcompile.config import MeasureConfig
from effcompile.measure import serving
from effcompile.measure.anchor_watch import Anchor
from effcompile.measure.meters import NoMeter
from effcompile.measure.module_session import ModuleRequest, ModuleSession
from effcompile.measure.session import Session
from schedules import _tvm
from schedules.target import Target
from schedules.workload import Workload
from search.meter_facts import MeterFacts
from search.trial import EnergyMeasurement, LatencyMeasurement


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """Open a device and prove it.

    Attributes:
        target: Device to open.
        config: How to measure.
        known_library: Library of the known kernel; ``None`` where there is no compiler to
            make one, and no candidates are run.
        screen_path: Kernels that compare outputs on the device; ``None`` where there are none.
    """

    target: Target
    config: MeasureConfig
    known_library: str | None
    screen_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAnswer:
    """What the opened device offers.

    Attributes:
        meter: Name of the meter, ``none`` if there is none.
        reason: Why there is none.
        denied: A meter is here, and may not be read.
    """

    meter: str
    reason: str = ""
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRequest:
    """One library to check, time or measure.

    Attributes:
        workload: What it computes.
        folder: Inputs and references.
        library_path: Shared library with ``main``.
    """

    workload: Workload
    folder: str
    library_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRequest:
    """One library whose energy is measured.

    Attributes:
        kernel: The library.
        matters_below_mj: See ``energy.Effort``.
    """

    kernel: KernelRequest
    matters_below_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRequest:
    """What the meter is calibrated with; see ``Session.learn_meter``.

    Attributes:
        anchor_library: Library of the anchor kernel.
        reference: The run's first anchor.
        known: An earlier calibration of the same session.
    """

    anchor_library: str
    reference: Anchor | None = None
    known: MeterFacts | None = None


class Worker:
    """The endpoints; a device is open after ``open``."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._modules: ModuleSession | None = None

    @property
    def session(self) -> Session:
        """The open device."""
        assert self._session is not None, "open comes first"
        return self._session

    @property
    def modules(self) -> ModuleSession:
        """Modules on the open device."""
        assert self._modules is not None, "open comes first"
        return self._modules

    def open(self, request: OpenRequest) -> OpenAnswer:
        """Open the device and run the known kernel on it."""
        self._session = Session(request.target, request.config, screen_path=request.screen_path)
        self._modules = ModuleSession(self._session)
        if request.known_library is not None:
            self._session.prove(request.known_library)
        meter = self._session.meter
        if isinstance(meter, NoMeter):
            return OpenAnswer(meter="none", reason=meter.reason, denied=meter.denied)
        return OpenAnswer(meter=meter.name)

    def check_and_time(self, request: KernelRequest) -> LatencyMeasurement:
        """Compare with the reference, then time."""
        return self.session.check_and_time(
            request.workload, Path(request.folder), request.library_path
        )

    def time_only(self, request: KernelRequest) -> LatencyMeasurement:
        """Time a kernel that was checked before."""
        return self.session.time_only(request.workload, Path(request.folder), request.library_path)

    def learn_meter(self, request: MeterRequest) -> MeterFacts:
        """Calibrate the meter, or take over what is known of it."""
        return self.session.learn_meter(
            request.anchor_library, reference=request.reference, known=request.known
        )

    def energy(self, request: EnergyRequest) -> EnergyMeasurement:
        """Measure the energy of a kernel that was checked before."""
        kernel = request.kernel
        return self.session.energy(
            kernel.workload,
            Path(kernel.folder),
            kernel.library_path,
            matters_below_mj=request.matters_below_mj,
        )

    def module_time(self, request: ModuleRequest) -> LatencyMeasurement:
        """Latency of a whole module."""
        return self.modules.time(request)

    def module_energy(self, request: ModuleRequest) -> EnergyMeasurement:
        """Energy of a whole module."""
        return self.modules.energy(request)


def endpoints(worker: Worker) -> dict[str, serving.Endpoint]:
    """What the device process answers."""
    return {
        "open": serving.Endpoint(request=OpenRequest, function=worker.open),
        "check_and_time": serving.Endpoint(request=KernelRequest, function=worker.check_and_time),
        "time_only": serving.Endpoint(request=KernelRequest, function=worker.time_only),
        "module_time": serving.Endpoint(request=ModuleRequest, function=worker.module_time),
        "module_energy": serving.Endpoint(request=ModuleRequest, function=worker.module_energy),
        "learn_meter": serving.Endpoint(request=MeterRequest, function=worker.learn_meter),
        "energy": serving.Endpoint(request=EnergyRequest, function=worker.energy),
    }


def main() -> None:
    """Serve measurements until the parent is gone."""
    wiring = serving.join_parent(sys.argv[1:])
    _tvm.hide_torch()
    serving.serve(wiring, endpoints(Worker()))


if __name__ == "__main__":
    main()
