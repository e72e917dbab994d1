"""The convolution family on Hopper: knobs of its program behind the design-space protocol.

Channels lie next to each other and come in multiples of 8; ``effcompile/frontend/layout.py``
brings networks into that form. Groups are left to TVM's space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.conv_costs import Costs, Needs, costs, needs, threads
from schedules.conv_cuda import REGISTERS, conv_cuda
from schedules.conv_layout import ConvSchedule, can_keep_halo, n_steps
from schedules.conv_problem import ALIGNED_ELEMENTS, convolution_of
from schedules.convolution import Convolution, Direction
from schedules.covering import required, unless_empty
from schedules.judged_space import Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, Values
from schedules.matmul_cuda import WARPGROUP
from schedules.target import Target
from schedules.task import Task

MOST_STEP = 8
"""Largest step of a copied box."""
MOST_SPAN = 256
"""Pixels of the images that it may span in one direction."""
MOST_ROWS = 256
MOST_SUMS = 192
"""Of a thread."""
OTHER_REGISTERS = 24
"""Of a thread, beside its sums."""
LARGEST_BOXES = (1, 2, 4, 6, 8, 10, 14, 16, 20, 28, 32, 56, 64, 128)
"""Pixels in one direction."""


def serves(target: Target) -> bool:
    """Whether the family has kernels for a device."""
    return target.is_hopper


def conv_space(task: Task) -> ConvSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = _problem(task) if serves(task.target) else None
    return None if problem is None else unless_empty(ConvSpace(task, problem))


def _problem(task: Task) -> Convolution | None:
    """One whose pixels and weights the tensor memory accelerator can read."""
    problem = convolution_of(task.workload)
    if problem is None:
        return None
    steps = (problem.channels, problem.pixel_step, problem.line_step)
    return problem if all(step % ALIGNED_ELEMENTS == 0 for step in steps) else None


class ConvSpace(JudgedSpace):
    """Boxes of pixels, filters, warpgroups, stages, sharing of terms, order.

    Args:
        task: What to compute.
        problem: The convolution behind it, if it is known.
    """

    name = "conv"
    patience = 1.6

    def __init__(self, task: Task, problem: Convolution | None = None) -> None:
        self._problem = required(
            problem or _problem(task),
            task,
            family=self.name,
            expected="one ungrouped convolution of float16 or bfloat16 images, channels last and "
            f"multiples of {ALIGNED_ELEMENTS}",
        )
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Boxes divide the output's extents as evenly as they can."""
        problem = self._problem
        most_images = max(1, MOST_ROWS // (problem.width.out * problem.height.out))
        return (
            Knob(name="box_width", values=pieces(problem.width.out, LARGEST_BOXES)),
            Knob(name="box_height", values=pieces(problem.height.out, LARGEST_BOXES)),
            Knob(name="box_images", values=pieces(problem.images, range(1, most_images + 1))),
            Knob(name="tile_column", values=(16, 32, 64, 96, 128, 192, 256)),
            Knob(name="multipliers", values=(1, 2)),
            Knob(name="stages", values=(2, 3, 4, 6, 8)),
            Knob(name="blocks_per_core", values=(1, 2, 3, 4)),
            Knob(name="cluster", values=(1, 2, 4, 8)),
            Knob(name="splits", values=(1, 2, 3, 4, 6, 8, 16)),
            Knob(name="columns_first", values=(0, 1)),
            Knob(name="halo", values=(0, 1) if can_keep_halo(problem) else (0,)),
        )

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem, needed = self._problem, needs(self._problem, values)
        held = needed.held
        column, multipliers = values["tile_column"], values["multipliers"]
        resident, parts = values["blocks_per_core"], values["cluster"] * values["splits"]
        sums = held.rows * column // (WARPGROUP * multipliers)
        granted = self._target.registers_per_block // (threads(multipliers) * resident)
        slots = self._target.n_cores * resident
        return {
            "a box of the images with such steps cannot be copied at once": (
                _too_wide(values, "width", problem.width)
                | _too_wide(values, "height", problem.height)
            ),
            "a tile has more rows than its warpgroups multiply": held.rows > MOST_ROWS,
            "half of the rows of a tile would not exist": (
                (held.rows > 64) & (held.rows >= 2 * held.pixels)
            ),
            "half of the filters of a tile would not exist": (
                (column > 16) & (column >= 2 * problem.filters)
            ),
            "a box of several images holds all pixels of each": (
                (values["box_images"] > 1)
                & (
                    (values["box_width"] < problem.width.out)
                    | (values["box_height"] < problem.height.out)
                )
            ),
            "several blocks of many warpgroups leave too few registers": (
                ~has_registers(multipliers, resident)
            ),
            # The compiler sees what all threads have alike, not what multipliers claim later.
            "the compiler would not keep the sums in registers": (
                (sums > MOST_SUMS) | (sums + OTHER_REGISTERS > granted)
            ),
            "a block does not fit a multiprocessor": (
                needed.shared_bytes > self._target.shared_memory_per_block_bytes
            ),
            "a part of the sum would have no terms": held.steps * (parts - 1) >= n_steps(problem),
            "the device is full without splitting the sum": (
                (parts > 1) & (needed.tiles >= 2 * slots)
            ),
            "terms are shared within clusters or among them": (
                (values["cluster"] > 1) & (values["splits"] > 1)
            ),
            "more stages than steps": values["stages"] > np.maximum(2, held.steps),
            "every order is the same": (
                (values["columns_first"] > 0) & ((needed.tiles == 1) | (column >= problem.filters))
            ),
            "fewer blocks share a multiprocessor anyway": (
                (resident > 1) & (needed.blocks <= self._target.n_cores * (resident - 1))
            ),
        }

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        return self._costs(values)[1].total

    def _costs(self, values: Mapping[str, Grid]) -> tuple[Needs, Costs]:
        needed = needs(self._problem, values)
        return needed, costs(self._problem, self._target, values, needed)

    def schedule(self, values: Values) -> ConvSchedule:
        """The decisions that knob values stand for."""
        return ConvSchedule(**whole_numbers(values))

    def program(self, values: Values) -> Any:
        """The bound program."""
        return conv_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles, of parts of them, bytes in flight, blocks; padding, idling."""
        needed, cost = self._costs(whole_numbers(values))
        held = needed.held
        computed = needed.tiles * held.rows * int(values["tile_column"])
        slots = self._target.n_cores * int(values["blocks_per_core"])
        return [
            float(np.log2(cost.total)),
            float(np.log2(cost.arithmetic)),
            float(np.log2(cost.memory)),
            float(np.log2(cost.finish)),
            float(np.log2(cost.flying_bytes)),
            float(np.log2(held.steps)),
            float(np.log2(needed.blocks)),
            float(np.log2(needed.blocks / slots)),
            float(self._problem.product.m * self._problem.filters / computed),
            float(cost.idle),
        ]


def pieces(extent: int, largest: Iterable[int]) -> tuple[int, ...]:
    """Extents of at most such a size that cut a direction as evenly as they can."""
    return tuple(sorted({ceil_div(extent, ceil_div(extent, most)) for most in largest}))


def _too_wide(values: Mapping[str, Grid], name: str, direction: Direction) -> Grid:
    """Whether a box of so many pixels of the output cannot be read in this direction."""
    box, stride = values[f"box_{name}"], direction.stride
    reach = values["halo"] * (direction.kernel - 1) * direction.dilation
    span = (box - 1) * stride + 1 + reach
    return (span > MOST_SPAN) | ((box > 1) & (stride > MOST_STEP))


def has_registers(multipliers: Grid, resident: Grid) -> Grid:
    """Whether it is known how blocks of so many warpgroups divide their registers."""
    known = np.zeros(np.broadcast_shapes(np.shape(multipliers), np.shape(resident)), dtype=bool)
    for key in REGISTERS:
        known |= (multipliers == key[0]) & (resident == key[1])
    return known
