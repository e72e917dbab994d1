"""A device that is open in this process, and what works on its kind only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from effcompile.measure import timing
from effcompile.measure.arguments import Arguments
from effcompile.measure.correctness import Screen
from effcompile.measure.loads import HostLoad, Load
from effcompile.measure.memory import Device, HostDevice
from effcompile.measure.prepared import Prepared
from schedules.target import Target

MakeLoad = Callable[[Sequence[timing.Launch], int], Load]
"""Launches, gone through in turn, as a load; the number is that of one batch."""

MakeScreen = Callable[[Prepared, Arguments], Screen | None]
"""A screen for a workload whose inputs are in place, if there is one."""

# Of the memory that is free: the rest is for what checks need, and for the kernels' workspaces.
KEPT_SHARE = 0.25
KEPT_BYTES_ON_HOST = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDevice:
    """One device with its tools.

    Attributes:
        device: Memory and order.
        stopwatch: Times launches.
        make_load: Keeps launches running.
        make_screen: A screen for a workload, if there is one.
        kept_bytes: Memory that workloads which are not in use may hold.
        gpu_uuid: Which GPU it is.
    """

    device: Device
    stopwatch: timing.Stopwatch
    make_load: MakeLoad
    make_screen: MakeScreen
    kept_bytes: int
    gpu_uuid: str | None = None


def open_device(target: Target, screen_path: str | None) -> OpenedDevice:
    """The device of a target; TVM's runtime is loaded for it.

    Args:
        target: Which device.
        screen_path: Machine code of ``screen_source``; ``None`` compares on the host.

    Raises:
        DeviceUnavailable: The CUDA driver's bindings are missing.
        DeviceFault: The driver refuses.
    """
    if target.kind == "llvm":
        return OpenedDevice(
            device=HostDevice(),
            stopwatch=timing.HostStopwatch(),
            make_load=_host_load,
            make_screen=lambda prepared, arguments: None,
            kept_bytes=KEPT_BYTES_ON_HOST,
        )
    return _open_cuda(screen_path)


def _open_cuda(screen_path: str | None) -> OpenedDevice:
    from effcompile.measure.cuda_device import CudaDevice
    from effcompile.measure.cuda_launches import CudaStopwatch, back_to_back
    from effcompile.measure.cuda_screen import open_screen

    device = CudaDevice()
    device.take_over_stream()
    functions = device.load_functions(Path(screen_path).read_bytes()) if screen_path else None

    def make_screen(prepared: Prepared, arguments: Arguments) -> Screen | None:
        if functions is None:
            return None
        return open_screen(device, functions, prepared, arguments)

    return OpenedDevice(
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
