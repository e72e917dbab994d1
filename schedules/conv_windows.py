"""Convolutions of images with few channels on Hopper, behind the design-space protocol.

A row of the kernel is one window of neighbours in memory there, and windows overlap: the program
copies rows of the images once and reads windows where they lie (``cuda/conv_windows.cuh``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.conv import (
    MOST_SUMS,
    OTHER_REGISTERS,
    has_registers,
    pieces,
    serves,
)
from schedules.conv_costs import threads
from schedules.conv_problem import convolution_of
from schedules.conv_windows_costs import windows_costs
from schedules.conv_windows_cuda import windows_cuda
from schedules.conv_windows_layout import (
    MOST_COPIED,
    WindowsSchedule,
    has_windows,
    image_rows,
    n_boxes,
    n_turns,
    row_parts,
    windows_arena,
)
from schedules.convolution import Convolution
from schedules.covering import required, unless_empty
from schedules.judged_space import Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, Values
from schedules.resident_blocks import RESERVED_SHARED_BYTES
from schedules.task import Task

BOX_HEIGHTS = (1, 2, 3, 4, 6, 8)
"""Rows of pixels at most."""


def conv_windows_space(task: Task) -> ConvWindowsSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = _problem(task) if serves(task.target) else None
    return None if problem is None else unless_empty(ConvWindowsSpace(task, problem))


def _problem(task: Task) -> Convolution | None:
    problem = convolution_of(task.workload)
    return problem if problem is not None and has_windows(problem) else None


class ConvWindowsSpace(JudgedSpace):
    """Rows of pixels, filters, warpgroups, stages, residency.

    Args:
        task: What to compute.
        problem: The convolution behind it, if it is known.
    """

    name = "conv_windows"

    def __init__(self, task: Task, problem: Convolution | None = None) -> None:
        self._problem = required(
            problem or _problem(task),
            task,
            family=self.name,
            expected="one convolution of float16 or bfloat16 images, channels last, of which a row "
            "of the kernel is 16, 32 or 64 neighbours and a step of it 8",
        )
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Boxes divide the output's rows as evenly as they can."""
        return (
            Knob(name="box_height", values=pieces(self._problem.height.out, BOX_HEIGHTS)),
            Knob(name="tile_column", values=(16, 32, 64, 96, 128)),
            Knob(name="multipliers", values=(1, 2, 3)),
            Knob(name="stages", values=(2, 3, 4)),
            Knob(name="blocks_per_core", values=(1, 2, 3, 4)),
        )

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem, held = self._problem, windows_arena(self._problem, values)
        column, multipliers = values["tile_column"], values["multipliers"]
        resident, n_cores = values["blocks_per_core"], self._target.n_cores
        granted = self._target.registers_per_block // (threads(multipliers) * resident)
        column_tiles = ceil_div(problem.filters, column)
        blocks = n_boxes(problem, values["box_height"]) * column_tiles
        every = held.shared + RESERVED_SHARED_BYTES
        return {
            "so many rows of the images cannot be copied at once": (
                image_rows(problem, values["box_height"]) > MOST_COPIED
            ),
            "half of the filters of a tile would not exist": (
                (column > 16) & (column >= 2 * problem.filters)
            ),
            "several blocks of many warpgroups leave too few registers": (
                ~has_registers(multipliers, resident)
            ),
            # The compiler sees what all threads have alike, not what multipliers claim later.
            "the compiler would not keep the sums in registers": (
                (column // 2 > MOST_SUMS) | (column // 2 + OTHER_REGISTERS > granted)
            ),
            "a block does not fit a multiprocessor": (
                resident * every - RESERVED_SHARED_BYTES
                > self._target.shared_memory_per_block_bytes
            ),
            "some warpgroups would have nothing to multiply": (
                multipliers > values["box_height"] * row_parts(problem)
            ),
            "a turn of all filters does not fit the device": column_tiles > n_cores * resident,
            "more stages than tiles of a block": (
                values["stages"] > np.maximum(2, n_turns(problem, values, n_cores))
            ),
            "fewer blocks share a multiprocessor anyway": (
                (resident > 1) & (blocks <= n_cores * (resident - 1))
            ),
        }

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        return windows_costs(self._problem, self._target, values).total

    def schedule(self, values: Values) -> WindowsSchedule:
        """The decisions that knob values stand for, and the fewest blocks that take no longer."""
        chosen = whole_numbers(values)
        turns = n_turns(self._problem, chosen, self._target.n_cores)
        boxes = n_boxes(self._problem, chosen["box_height"])
        return WindowsSchedule(**chosen, n_blocks=int(ceil_div(boxes, turns)))

    def program(self, values: Values) -> Any:
        """The bound program."""
        return windows_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles and of parts of them, of bytes and tiles of a block; idling."""
        chosen = whole_numbers(values)
        cost = windows_costs(self._problem, self._target, chosen)
        held = windows_arena(self._problem, chosen)
        turns = n_turns(self._problem, chosen, self._target.n_cores)
        boxes = n_boxes(self._problem, chosen["box_height"])
        column_tiles = ceil_div(self._problem.filters, chosen["tile_column"])
        slots = self._target.n_cores * chosen["blocks_per_core"]
        return [
            float(np.log2(cost.total)),
            float(np.log2(cost.arithmetic)),
            float(np.log2(cost.finish)),
            float(np.log2(held.shared)),
            float(np.log2(turns)),
            float(1 - boxes * column_tiles / (turns * slots)),
        ]
