"""What the device process does: load a library, check it, time it, measure its energy.

Runs inside the device process only. TVM is here without its compiler, so a kernel cannot
trigger a compilation, and the process stays small.
"""

from __future__ import annotations

import time
from pathlib import Path

from effcompile.config import MeasureConfig
from effcompile.errors import MeterUnavailable, WrongResult
from effcompile.measure import anchor, energy, known_kernel, timing
from effcompile.measure.anchor_watch import Anchor, AnchorWatch
from effcompile.measure.arguments import Arguments, place
from effcompile.measure.calibration import calibrate
from effcompile.measure.energy import Effort
from effcompile.measure.experience import learnt
from effcompile.measure.loads import Load
from effcompile.measure.meters import Meter, NoMeter, open_meter
from effcompile.measure.open_workloads import OpenWorkload, OpenWorkloads
from effcompile.measure.opened_device import open_device
from effcompile.measure.windows import NO_EXPERIENCE
from effcompile.runtime_libraries import load_cuda_runtime
from schedules.target import Target
from schedules.workload import Workload
from search.meter_facts import MeterFacts
from search.trial import EnergyMeasurement, LatencyMeasurement

# Long enough that queued batches outlast a slow reading of the meter, short enough to
# count launches finely.
LOAD_BATCH_US = {"cuda": 5000.0, "llvm": 1000.0}


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
        load_runtime(target.kind)
        opened = open_device(target, screen_path)
        self._device, self._stopwatch = opened.device, opened.stopwatch
        self._make_load = opened.make_load
        self.meter: Meter | NoMeter = open_meter(
            config.meter, kind=target.kind, gpu_uuid=opened.gpu_uuid
        )
        self._workloads = OpenWorkloads(opened, target, config)
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
        opened = self._workloads.get(workload, folder)
        launches = [self._launcher(library_path, copy) for copy in opened.copies]
        check_s = self._check(opened, launches[0])
        if check_s * 1000 > self._config.max_timing_ms:  # so slow that no cache matters
            launches = launches[:1]
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
        opened = self._workloads.get(workload, folder)
        launches = [self._launcher(library_path, copy) for copy in opened.copies]
        self._first_launch(launches)
        return launches

    def _first_launch(self, launches: list[timing.Launch]) -> None:
        # Loads code and allocates workspace, outside any graph or clock.
        for launch in launches:
            launch()
        self._device.synchronise()

    def _check(self, opened: OpenWorkload, launch: timing.Launch) -> float:
        """Compare a kernel with its reference; seconds that a launch took."""
        times_s = []

        def launch_and_wait() -> None:
            begun_s = time.perf_counter()
            launch()
            self._device.synchronise()
            times_s.append(time.perf_counter() - begun_s)

        wrong = opened.checker.check(launch_and_wait, opened.copies[0])
        if wrong:
            self._workloads.restore(opened)
            raise WrongResult(f"{wrong}.")
        return min(times_s)

    def _launcher(self, library_path: str, arguments: Arguments) -> timing.Launch:
        import tvm

        function = tvm.runtime.load_module(library_path)["main"]
        tensors = arguments.tensors
        return lambda: function(*tensors)


def load_runtime(kind: str) -> None:
    """Import TVM's runtime, with its CUDA part if the target needs it."""
    import tvm  # noqa: F401

    if kind == "cuda":
        load_cuda_runtime()
