"""Workloads keep their place on a device while there is room, and leave it to others."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from effcompile.config import MeasureConfig
from effcompile.measure import open_workloads, timing
from effcompile.measure.environment import cpu_target
from effcompile.measure.memory import HostDevice, HostMemory
from effcompile.measure.open_workloads import OpenWorkloads
from effcompile.measure.opened_device import OpenedDevice
from effcompile.measure.prepared import Prepared, expectation_of
from schedules.expected import Reference
from schedules.reference import Tolerance
from schedules.workload import TensorSpec, Workload

N = 1 << 15
INPUT_BYTES = 4 * N


class SmallDevice(HostDevice):
    """A device of few bytes, which knows what is in use."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._held: weakref.WeakSet[HostMemory] = weakref.WeakSet()

    def allocate(self, size_bytes: int) -> HostMemory:
        used = sum(one.size_bytes for one in self._held)
        if used + size_bytes > self.size_bytes:
            raise MemoryError
        made = HostMemory(size_bytes)
        self._held.add(made)
        return made


def workload(number: int) -> Workload:
    specs = [TensorSpec(name=name, shape=(N,), dtype="float32") for name in "xy"]
    return Workload(
        op="generic",
        name=f"w{number}",
        inputs=(specs[0],),
        outputs=(specs[1],),
        program="",
        program_hash=str(number),
    )


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.zeros(N, np.float32)
    tolerance = Tolerance(rtol=0.0, atol=0.0)
    expected = expectation_of(Reference(values=data), tolerance, dtype="float32")
    found = Prepared(inputs=[data], outputs=[expected], tolerance=tolerance)
    monkeypatch.setattr(open_workloads, "read_prepared", lambda _, folder: found)


def opened(*, kept_bytes: int, device_bytes: int = 1 << 30) -> OpenWorkloads:
    device = OpenedDevice(
        device=SmallDevice(device_bytes),
        stopwatch=timing.HostStopwatch(),
        make_load=lambda launches, n_launches: None,  # type: ignore[arg-type, return-value]
        make_screen=lambda prepared, arguments: None,
        kept_bytes=kept_bytes,
    )
    return OpenWorkloads(device, cpu_target(), MeasureConfig(cache="hot"))


def test_all_keep_their_place_while_there_is_room() -> None:
    workloads = opened(kept_bytes=20 * INPUT_BYTES)
    first = [workloads.get(workload(i), Path()) for i in range(4)]
    assert [workloads.get(workload(i), Path()) for i in range(4)] == first
    assert all(workloads.get(workload(i), Path()) is first[i] for i in range(4))


def test_the_longest_unused_leaves_first() -> None:
    # Each takes twice its input.
    workloads = opened(kept_bytes=5 * INPUT_BYTES)
    first = [workloads.get(workload(i), Path()) for i in range(2)]
    workloads.get(workload(0), Path())
    workloads.get(workload(2), Path())
    assert workloads.get(workload(0), Path()) is first[0]
    assert workloads.get(workload(1), Path()) is not first[1]


def test_where_memory_is_out_the_others_leave() -> None:
    workloads = opened(kept_bytes=100 * INPUT_BYTES, device_bytes=5 * INPUT_BYTES)
    first = workloads.get(workload(0), Path())
    workloads.get(workload(1), Path())
    del first
    alone = workloads.get(workload(2), Path())
    assert workloads.get(workload(2), Path()) is alone


def test_one_that_does_not_fit_at_all_is_said_so() -> None:
    with pytest.raises(MemoryError):
        opened(kept_bytes=0, device_bytes=INPUT_BYTES).get(workload(0), Path())
