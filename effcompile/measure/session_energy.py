"""What a device draws over a whole session, building and timing included."""

from __future__ import annotations

import contextlib

from effcompile.errors import DeviceUnavailable, MeterUnavailable
from effcompile.measure.cuda_facts import gpu_facts
from effcompile.measure.meters import Meter, NoMeter, open_meter
from schedules.target import Target


class SessionEnergy:
    """Joules of a device since this was made; opens no device context.

    Args:
        target: The device.
        meter: ``auto``, ``nvml``, ``rapl`` or ``none``.
    """

    def __init__(self, target: Target, meter: str) -> None:
        self._meter = _opened(target, meter)
        self._first_mj = self._last_mj = 0.0
        with contextlib.suppress(MeterUnavailable):
            if self._meter is not None:
                self._first_mj = self._last_mj = self._meter.counter_mj()

    def spent_j(self) -> float | None:
        """Joules so far; ``None`` without a meter. Ask every few minutes: counters wrap."""
        if self._meter is None:
            return None
        with contextlib.suppress(MeterUnavailable):
            # A counter that was reset meanwhile keeps what it had shown.
            self._last_mj = max(self._last_mj, self._meter.counter_mj())
        return (self._last_mj - self._first_mj) / 1000


def _opened(target: Target, wanted: str) -> Meter | None:
    uuid = None
    if target.kind == "cuda":
        with contextlib.suppress(DeviceUnavailable):
            uuid = gpu_facts().uuid
    found = open_meter(wanted, kind=target.kind, gpu_uuid=uuid)
    return None if isinstance(found, NoMeter) else found
