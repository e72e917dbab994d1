"""Workloads whose data is on the device: opened once, closed when others need the room."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from effcompile.config import MeasureConfig
from effcompile.measure import timing
from effcompile.measure.arguments import Arguments, place, size_of
from effcompile.measure.correctness import Checker
from effcompile.measure.opened_device import OpenedDevice
from effcompile.measure.prepared import Prepared, read_prepared
from schedules.target import Target
from schedules.workload import Workload


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


class OpenWorkloads:
    """The workloads of one device.

    They keep their place on it while there is room: putting a gigabyte there takes longer than
    twenty trials. Where the same data lies also decides about power: after each new allocation,
    windows of matrices that fill most of an H100's cache differed by 3 to 7 % where those in
    between differed by 2.

    Args:
        opened: The device.
        target: Whose cache cold measurements must not fit.
        config: Whether caches are cold.
    """

    def __init__(self, opened: OpenedDevice, target: Target, config: MeasureConfig) -> None:
        self._device, self._make_screen = opened.device, opened.make_screen
        self._kept_bytes = opened.kept_bytes
        self._target = target
        self._config = config
        self._open: dict[str, OpenWorkload] = {}

    def get(self, workload: Workload, folder: Path) -> OpenWorkload:
        """A workload with its data on the device.

        Args:
            workload: Which.
            folder: Where its inputs and references lie.
        """
        key = workload.workload_id
        if key not in self._open:
            prepared = read_prepared(workload, folder=folder)
            self._make_room(sum(map(size_of, (*workload.inputs, *workload.outputs))))
            self._open[key] = self._placed_alone_if_need_be(workload, prepared)
        self._open[key] = self._open.pop(key)  # the last to be closed
        return self._open[key]

    def _placed_alone_if_need_be(self, workload: Workload, prepared: Prepared) -> OpenWorkload:
        try:
            return self._placed(workload, prepared)
        except MemoryError:
            if not self._open:
                raise
        # Here, where the exception no longer holds what was placed in part.
        self._open.clear()
        return self._placed(workload, prepared)

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

    def restore(self, opened: OpenWorkload) -> None:
        """Write inputs and references again, in their place: a kernel that wrote where it should
        not may have spoilt them. If it spoilt another workload's, that one's next candidate is
        wrong, and they are written again then.
        """
        for copy in opened.copies:
            for argument, data in zip(copy.inputs, opened.prepared.inputs, strict=True):
                argument.write(data)
        screen = self._make_screen(opened.prepared, opened.copies[0])
        opened.checker = Checker(opened.prepared, screen)

    def _make_room(self, size_bytes: int) -> None:
        """Close workloads, the longest unused first, until that much more may be kept."""
        kept = sum(one.size_bytes for one in self._open.values())
        while self._open and size_bytes + kept > self._kept_bytes:
            kept -= self._open.pop(next(iter(self._open))).size_bytes
