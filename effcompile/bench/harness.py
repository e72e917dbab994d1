"""One way to measure every contender on a GPU: same stream, graph, clock and meter.

Contenders are functions that queue one launch on torch's current stream. Each is
captured into a CUDA graph where it can be, timed in bursts, then run back to back for
an energy window; contenders take turns, so drift of temperature and clocks meets all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from effcompile.config import MeasureConfig
from effcompile.errors import DeviceUnavailable
from effcompile.measure.finals import combined_energy, combined_latency
from search.trial import EnergyMeasurement, LatencyMeasurement

if TYPE_CHECKING:
    from effcompile.measure.loads import Load
    from effcompile.measure.observation import Effort
    from effcompile.measure.windows import Experience

Launch = Callable[[], None]

CALIBRATING_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One implementation of a workload.

    Attributes:
        name: For people.
        launches: One function per set of buffers; each queues one launch.
        error: Why it cannot be measured here; then ``launches`` is empty.
    """

    name: str
    launches: Sequence[Launch] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender on one workload.

    Attributes:
        workload: For people.
        contender: For people.
        burst_us: Latency in short bursts: median over rounds.
        burst_ci95_us: Half width of its interval.
        sustained_us: Time per launch back to back, inside the energy window.
        energy_mj: Energy per launch, median over rounds; ``None`` if unmeasured.
        energy_ci95_mj: Half width of its interval.
        power_w: Mean power inside the window.
        bytes_per_s: Bytes that must move over the burst latency.
        flops_per_s: Operations that must be done over the burst latency; ``None`` if uncounted.
        cache: ``hot`` or ``cold``.
        ceiling_share: The larger of the shares of the measured ceilings of bytes and operations.
        verdict: Of the energy windows; the first that is not ``ok``.
        error: Why there are no numbers.
    """

    workload: str
    contender: str
    burst_us: float | None = None
    burst_ci95_us: float | None = None
    sustained_us: float | None = None
    energy_mj: float | None = None
    energy_ci95_mj: float | None = None
    power_w: float | None = None
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    cache: str = ""
    ceiling_share: float | None = None
    verdict: str = ""
    error: str = ""


class GpuHarness:
    """A stream, a stopwatch and a meter on the GPU that torch uses.

    Raises:
        DeviceUnavailable: There is no CUDA GPU, or torch cannot use it.
        MeterUnavailable: Its energy cannot be measured.
    """

    def __init__(self, config: MeasureConfig) -> None:
        import torch

        from effcompile.measure.cuda_device import CudaDevice
        from effcompile.measure.cuda_launches import CudaStopwatch
        from effcompile.measure.nvml import NvmlMeter

        if not torch.cuda.is_available():
            raise DeviceUnavailable(
                "this benchmark compares with torch on a CUDA GPU and torch sees none. "
                "Run it on a machine with a GPU and a CUDA build of torch."
            )
        torch.cuda.init()
        self._config = config
        self._device = CudaDevice(torch.cuda.current_device())
        self._stream = torch.cuda.ExternalStream(int(self._device.stream))
        self._stopwatch = CudaStopwatch(self._device)
        self._meter = NvmlMeter(self._device.uuid)

    @contextmanager
    def stream(self) -> Any:
        """Send torch's and TVM's launches of this thread to the measured stream."""
        import torch

        from effcompile.runtime_libraries import load_runtime

        ffi = load_runtime()
        with (
            torch.cuda.stream(self._stream),
            ffi.use_raw_stream(ffi.device("cuda", 0), int(self._device.stream)),
        ):
            yield
            self._device.synchronise()

    def compare(
        self,
        workload: str,
        contenders: Sequence[Contender],
        *,
        n_bytes: int,
        n_rounds: int,
        n_flops: int = 0,
    ) -> list[Row]:
        """Measure contenders in turn, ``n_rounds`` times, starting with another one each time."""
        timings: dict[str, list[LatencyMeasurement]] = {one.name: [] for one in contenders}
        energies: dict[str, list[EnergyMeasurement]] = {one.name: [] for one in contenders}
        errors = {one.name: one.error for one in contenders}
        with self.stream():
            for index in range(n_rounds):
                turn = index % len(contenders)
                for one in [*contenders[turn:], *contenders[:turn]]:
                    if not errors[one.name]:
                        errors[one.name] = self._measure(one, timings, energies)
        return [
            _row(
                workload=workload,
                name=one.name,
                timings=timings[one.name],
                energies=energies[one.name],
                n_bytes=n_bytes,
                n_flops=n_flops,
                error=errors[one.name],
            )
            for one in contenders
        ]

    def _measure(
        self,
        one: Contender,
        timings: Mapping[str, list[LatencyMeasurement]],
        energies: Mapping[str, list[EnergyMeasurement]],
    ) -> str:
        from effcompile.measure.timing import measure_latency

        try:
            for launch in one.launches:
                launch()
            self._device.synchronise()
            timings[one.name].append(measure_latency(self._stopwatch, one.launches, self._config))
            energies[one.name].append(self._energy(one.launches, timings[one.name][-1].latency_us))
        except Exception as error:  # a peer that fails here is a row that says so
            return f"{type(error).__name__}: {str(error)[:200]}"
        return ""

    def _energy(self, launches: Sequence[Launch], latency_us: float) -> EnergyMeasurement:
        from effcompile.measure.energy import evaluate
        from effcompile.measure.observation import observe

        effort, experience = self._effort(), self._experience
        load = self._load(launches, latency_us)
        observed = observe(load, self._meter, effort=effort, experience=experience)
        return evaluate(observed, meter=self._meter.name, effort=effort, experience=experience)

    def _effort(self) -> Effort:
        from effcompile.measure.observation import Effort

        return Effort(
            window_ms=self._config.energy_window_ms,
            settle_ms=self._config.settle_ms,
            precision=self._config.energy_precision,
        )

    def _load(self, launches: Sequence[Launch], latency_us: float) -> Load:
        from effcompile.measure.cuda_launches import back_to_back

        return back_to_back(self._device, launches, max(1, round(5000 / latency_us)))

    @cached_property
    def _experience(self) -> Experience:
        """What a calibration under a copy of 64 MiB teaches about the meter, once."""
        import torch

        from effcompile.measure.calibration import calibrate
        from effcompile.measure.experience import learnt

        source = torch.ones(CALIBRATING_BYTES // 4, device="cuda")
        target = torch.empty_like(source)
        copied = [lambda: torch.neg(source, out=target)]
        return learnt(
            calibrate(self._meter, lambda: self._load(copied, 50.0), effort=self._effort())
        )


def _row(
    *,
    workload: str,
    name: str,
    timings: Sequence[LatencyMeasurement],
    energies: Sequence[EnergyMeasurement],
    n_bytes: int,
    n_flops: int,
    error: str,
) -> Row:
    if error or not timings:
        return Row(workload=workload, contender=name, error=error or "not measured")
    latency, energy = combined_latency(timings), combined_energy(energies)
    burst_us = latency.latency_us
    return Row(
        workload=workload,
        contender=name,
        burst_us=burst_us,
        burst_ci95_us=latency.ci95_us,
        sustained_us=energy.sustained_latency_us,
        energy_mj=energy.energy_mj,
        energy_ci95_mj=energy.ci95_mj,
        power_w=energy.power_w,
        bytes_per_s=n_bytes / (burst_us * 1e-6),
        flops_per_s=n_flops / (burst_us * 1e-6) if n_flops else None,
        verdict=next((one.verdict.value for one in energies if one.verdict.value != "ok"), "ok"),
    )
