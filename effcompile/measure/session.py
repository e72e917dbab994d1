"""What the device process does: load a library, check it, time it, measure its energy.

Runs inside the device process only. TVM is here without its compiler, so a kernel cannot
trigger a compilation, and the process stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from effcompile.config import MeasureConfig
from effcompile.errors import MeterUnavailable, WrongResult
from effcompile.measure import anchor, energy, known_kernel, timing
from effcompile.measure.anchor_watch import Anchor, AnchorWatch
from effcompile.measure.arguments import Arguments, place
from effcompile.measure.calibration import calibrate, learnt
from effcompile.measure.correctness import Checker, Screen
from effcompile.measure.energy import Effort
from effcompile.measure.loads import HostLoad, Load
from effcompile.measure.memory import Device, HostDevice
from effcompile.measure.meters import Meter, NoMeter, open_meter
from effcompile.measure.prepared import Prepared, read_prepared
from effcompile.measure.windows import NO_EXPERIENCE
from effcompile.runtime_libraries import load_cuda_runtime
from schedules.target import Target
from schedules.workload import Workload
from search.meter_facts import MeterFacts
from search.trial import EnergyMeasurement, LatencyMeasurement

# Long enough that queued batches outlast a slow reading of the meter, short enough to
# count launches finely.
LOAD_BATCH_US = {"cuda": 5000.0, "llvm": 1000.0}

# Workloads keep their place on the device while all together take no more than this share of the
# memory that was free: putting a gigabyte there takes longer than twenty trials. Where the same
# data lies decides about power: after each new allocation, windows of matrices that fill most of
# an H100's cache differed by 3 to 7 % where those in between differed by 2.
KEPT_SHARE = 0.25
KEPT_BYTES_ON_HOST = 2 << 30

MakeLoad = Callable[[Sequence[timing.Launch], int], Load]
"""Launches, gone through in turn, as a load; the number is that of one batch."""


@dataclass(slots=True)
class OpenWorkload:
    """A workload whose data is on the device.

    Attributes:
        workload: Its description.
        prepared: Inputs and references on the host.
        checker: Compares outputs.
        copies: Sets of arguments; more than one in cold mode.
    """

    workload: Workload
    prepared: Prepared
    checker: Checker
    copies: list[Arguments] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """What its arguments take on the device."""
        return sum(copy.size_bytes for copy in self.copies)


class Session:
    """One device, and the workloads that lie on it.

    Args:
        target: Device to use.
        config: How to measure.
        screen_path: Machine code of ``screen_source``; ``None`` compares on the host.
    """

    def __init__(
        self, target: Target, config: MeasureConfig, *, screen_path: str | None = None
    ) -> None:
        self._target = target
        self._config = config
        opened = _open_device(target, screen_path)
        self._device, self._stopwatch = opened.device, opened.stopwatch
        self._make_load, self._make_screen = opened.make_load, opened.make_screen
        self._kept_bytes = opened.kept_bytes
        self.meter: Meter | NoMeter = open_meter(
            config.meter, kind=target.kind, gpu_uuid=opened.gpu_uuid
        )
        self._open: dict[str, OpenWorkload] = {}
        self._experience = NO_EXPERIENCE
        self._anchors: AnchorWatch | None = None

    def prove(self, library_path: str) -> None:
        """Run the known kernel.

        Raises:
            WrongResult: Its answer is not the known one.
        """
        arguments = place(self._device, known_kernel.known_workload(), [known_kernel.known_input()])
        (output,) = arguments.outputs
        output.poison(0xFF)
        self._launcher(library_path, arguments)()
        self._device.synchronise()
        if not (output.typed(output.read_bytes()) == known_kernel.known_answer()).all():
            raise WrongResult("the device gives a wrong answer for a kernel that is known.")

    def check_and_time(
        self, workload: Workload, folder: Path, library_path: str
    ) -> LatencyMeasurement:
        """Compare a kernel with its reference, then time it, then look at its output again.

        Raises:
            WrongResult: The kernel is wrong.
        """
        opened = self._opened(workload, folder)
        launches = [self._launcher(library_path, copy) for copy in opened.copies]
        self._check(opened, launches[0])
        self._first_launch(launches[1:])
        latency = timing.measure_latency(self._stopwatch, launches, self._config)
        wrong = opened.checker.compare_outputs(opened.copies[0])
        if wrong:
            raise WrongResult(f"right at first, wrong after many launches: {wrong}.")
        return latency

    def time_only(self, workload: Workload, folder: Path, library_path: str) -> LatencyMeasurement:
        """Time a kernel that has been checked before."""
        launches = self._ready_launches(workload, folder, library_path)
        return self.time_launches(launches)

    def time_launches(self, launches: list[timing.Launch]) -> LatencyMeasurement:
        """Time anything that has run before."""
        return timing.measure_latency(self._stopwatch, launches, self._config)

    def synchronise(self) -> None:
        """Wait until everything launched has finished."""
        self._device.synchronise()

    def learn_meter(
        self, anchor_library: str, *, reference: Anchor | None, known: MeterFacts | None
    ) -> MeterFacts:
        """Calibrate the meter, unless that has been done on this device, and watch the anchor.

        Args:
            anchor_library: Library of the anchor kernel.
            reference: The run's first anchor; this calibration's own if there is none.
            known: An earlier calibration of the same session.

        Raises:
            MeterUnavailable: It cannot be read.
        """
        if isinstance(self.meter, NoMeter):
            raise MeterUnavailable(self.meter.reason)
        workload = anchor.anchor_workload(self._target)
        arguments = place(self._device, workload, [anchor.anchor_input(self._target)])
        launches = [self._launcher(anchor_library, arguments)]
        self._first_launch(launches)
        facts = known or calibrate(
            self.meter, lambda: self.load_of(launches), effort=self._effort(None)
        )
        self._experience = learnt(facts)
        if reference is None and facts.anchor_mj is not None:
            reference = Anchor(energy_mj=facts.anchor_mj, ci95_mj=facts.anchor_ci95_mj or 0.0)
        if reference is not None:
            self._anchors = AnchorWatch(
                lambda: self._window(launches, self._effort(None)),
                reference,
                every=self._config.anchor_every,
                is_fresh=known is None,
            )
        return facts

    def energy(
        self,
        workload: Workload,
        folder: Path,
        library_path: str,
        *,
        matters_below_mj: float | None = None,
    ) -> EnergyMeasurement:
        """Energy of one launch under sustained load."""
        if isinstance(self.meter, NoMeter):
            return energy.unmeasured(self.meter)
        launches = self._ready_launches(workload, folder, library_path)
        return self.energy_of(launches, matters_below_mj=matters_below_mj)

    def energy_of(
        self, launches: list[timing.Launch], *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        """Energy of one launch of anything that has run before."""
        if isinstance(self.meter, NoMeter):
            return energy.unmeasured(self.meter)
        if self._anchors is None:
            return self._window(launches, self._effort(matters_below_mj))
        self._anchors.before_window()
        return self._anchors.applied(self._window(launches, self._effort(matters_below_mj)))

    def _effort(self, matters_below_mj: float | None) -> Effort:
        return Effort(
            window_ms=self._config.energy_window_ms,
            settle_ms=self._config.settle_ms,
            precision=self._config.energy_precision,
            matters_below_mj=matters_below_mj,
        )

    def _window(self, launches: list[timing.Launch], effort: Effort) -> EnergyMeasurement:
        assert not isinstance(self.meter, NoMeter)
        observation = energy.observe(
            self.load_of(launches), self.meter, effort=effort, experience=self._experience
        )
        return energy.evaluate(
            observation,
            meter=self.meter.name,
            effort=effort,
            experience=self._experience,
            cache=self._config.cache,
        )

    def load_of(self, launches: list[timing.Launch]) -> Load:
        """Launches as a load without gaps, in batches that are neither long nor tiny."""
        batch_us = LOAD_BATCH_US[self._target.kind]
        return self._make_load(launches, timing.n_launches_for(self._stopwatch, launches, batch_us))

    def _ready_launches(
        self, workload: Workload, folder: Path, library_path: str
    ) -> list[timing.Launch]:
        opened = self._opened(workload, folder)
        launches = [self._launcher(library_path, copy) for copy in opened.copies]
        self._first_launch(launches)
        return launches

    def _first_launch(self, launches: list[timing.Launch]) -> None:
        # Loads code and allocates workspace, outside any graph or clock.
        for launch in launches:
            launch()
        self._device.synchronise()

    def _check(self, opened: OpenWorkload, launch: timing.Launch) -> None:
        def launch_and_wait() -> None:
            launch()
            self._device.synchronise()

        wrong = opened.checker.check(launch_and_wait, opened.copies[0])
        if wrong:
            self._restore(opened)
            raise WrongResult(f"{wrong}.")

    def _restore(self, opened: OpenWorkload) -> None:
        """Write inputs and references again, in their place: a kernel that wrote where it should
        not may have spoilt them. If it spoilt another workload's, that one's next candidate is
        wrong, and they are written again then.
        """
        for copy in opened.copies:
            for argument, data in zip(copy.inputs, opened.prepared.inputs, strict=True):
                argument.write(data)
        screen = self._make_screen(opened.prepared, opened.copies[0])
        opened.checker = Checker(opened.prepared, screen)

    def _launcher(self, library_path: str, arguments: Arguments) -> timing.Launch:
        import tvm

        function = tvm.runtime.load_module(library_path)["main"]
        tensors = arguments.tensors
        return lambda: function(*tensors)

    def _opened(self, workload: Workload, folder: Path) -> OpenWorkload:
        key = workload.workload_id
        if key not in self._open:
            prepared = read_prepared(workload, folder=folder)
            self._make_room(sum(one.nbytes for one in prepared.inputs))
            try:
                placed = self._placed(workload, prepared)
            except MemoryError:
                if not self._open:
                    raise
                self._open.clear()
                placed = self._placed(workload, prepared)
            self._open[key] = placed
        self._open[key] = self._open.pop(key)  # the last to be closed
        return self._open[key]

    def _placed(self, workload: Workload, prepared: Prepared) -> OpenWorkload:
        first = place(self._device, workload, prepared.inputs)
        n_copies = timing.n_copies_for(
            self._config,
            footprint_bytes=first.size_bytes,
            cache_bytes=self._target.cache_bytes,
        )
        others = [place(self._device, workload, prepared.inputs) for _ in range(n_copies - 1)]
        return OpenWorkload(
            workload=workload,
            prepared=prepared,
            checker=Checker(prepared, self._make_screen(prepared, first)),
            copies=[first, *others],
        )

    def _make_room(self, size_bytes: int) -> None:
        """Close workloads, the longest unused first, until that much more may be kept."""
        kept = sum(one.size_bytes for one in self._open.values())
        while self._open and size_bytes + kept > self._kept_bytes:
            kept -= self._open.pop(next(iter(self._open))).size_bytes


def load_runtime(kind: str) -> None:
    """Import TVM's runtime, with its CUDA part if the target needs it."""
    import tvm  # noqa: F401

    if kind == "cuda":
        load_cuda_runtime()


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenDevice:
    """A device and what works on it only.

    Attributes:
        device: Memory and order.
        stopwatch: Times launches.
        make_load: Keeps launches running.
        make_screen: A screen for a workload whose arguments are in place, if there is one.
        kept_bytes: What workloads that are not in use may take.
        gpu_uuid: Which GPU it is.
    """

    device: Device
    stopwatch: timing.Stopwatch
    make_load: MakeLoad
    make_screen: Callable[[Prepared, Arguments], Screen | None]
    kept_bytes: int = KEPT_BYTES_ON_HOST
    gpu_uuid: str | None = None


def _open_device(target: Target, screen_path: str | None) -> _OpenDevice:
    load_runtime(target.kind)
    if target.kind == "llvm":
        return _OpenDevice(
            device=HostDevice(),
            stopwatch=timing.HostStopwatch(),
            make_load=_host_load,
            make_screen=lambda prepared, arguments: None,
        )
    return _open_cuda(screen_path)


def _open_cuda(screen_path: str | None) -> _OpenDevice:
    from effcompile.measure.cuda_device import CudaDevice, CudaStopwatch, back_to_back
    from effcompile.measure.cuda_screen import open_screen

    device = CudaDevice()
    device.take_over_stream()
    functions = device.load_functions(Path(screen_path).read_bytes()) if screen_path else None

    def make_screen(prepared: Prepared, arguments: Arguments) -> Screen | None:
        if functions is None:
            return None
        return open_screen(device, functions, prepared, arguments)

    return _OpenDevice(
        device=device,
        stopwatch=CudaStopwatch(device),
        make_load=partial(back_to_back, device),
        make_screen=make_screen,
        kept_bytes=int(KEPT_SHARE * device.free_bytes()),
        gpu_uuid=device.uuid,
    )


def _host_load(launches: Sequence[timing.Launch], n_launches: int) -> Load:
    batch = timing.HostStopwatch().batch(launches, n_launches)
    return HostLoad(batch.run_us, batch.n_launches)
