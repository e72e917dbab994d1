"""Products of many rows with quantised matrices on Hopper that unpack in registers: knobs.

Packed weights are those of :mod:`schedules.gemm_dequant`, whose two launches write the matrix as
floats first, and of :mod:`schedules.gemv_dequant`: programs of all three may share them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.covering import required, unless_empty
from schedules.cuda_kernel import cuda_program
from schedules.dtypes import HALF
from schedules.gemm_dequant import LEAST_ROWS
from schedules.gemm_fused_costs import fused_cycles
from schedules.gemm_fused_cuda import (
    FusedSchedule,
    endings_of,
    launches,
    n_works,
    piece_depth,
    piece_registers,
    row_tiles,
    steps_per_split,
    tiles_of_output,
)
from schedules.gemv_dequant_layout import may_be_floats
from schedules.gemv_dequant_problem import GemvProblem, gemv_problem
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.matmul_cuda import COPIER_AND_MULTIPLIER_REGISTERS, K_STEP, WARPGROUP
from schedules.packing import TILE_COLUMNS
from schedules.product_ending import partial_sums
from schedules.resident_blocks import resident_refusal
from schedules.task import Task
from schedules.tile_order import order_fault

ALIGNED_ELEMENTS = 8
MOST_DATA = {240: 140, 208: 108, 160: 76}
"""Registers of sums and codes that leave room for the rest, by registers of a multiplier."""


def gemm_fused_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    return None if _covered(task) is None else unless_empty(GemmFusedSpace(task))


def _covered(task: Task) -> GemvProblem | None:
    problem = gemv_problem(task.workload) if task.target.is_hopper else None
    if problem is None or problem.dtype not in HALF or not may_be_floats(problem):
        return None
    # Biases of a gate and of the other matrix lie in turns.
    tangled = problem.gated and problem.has_bias
    reached = problem.depth % ALIGNED_ELEMENTS == 0 and problem.rows >= LEAST_ROWS
    return problem if reached and not tangled else None


class GemmFusedSpace(KnobSpace):
    """Tiles, stages, order, splitting and sharing; outputs are launches of the same decisions."""

    name = "gemm_fused"
    knobs = (
        Knob(name="multipliers", values=(1, 2, 3)),
        Knob(name="tile_column", values=(32, 64, 96, 128, 160, 176, 192, 224, 256)),
        Knob(name="stages", values=(3, 4, 6, 8)),
        Knob(name="blocks_per_core", values=(1, 2)),
        Knob(name="group", values=(1, 4, 16)),
        Knob(name="splits", values=(1, 2, 4)),
        Knob(name="cluster", values=(1, 2)),
        Knob(name="ahead", values=(2, 4, 8)),
        Knob(name="order", values=("any", "in_turns")),
        Knob(name="blocks", values=("one_per_tile", "persistent")),
    )

    def __init__(self, task: Task) -> None:
        self._problem = required(
            _covered(task),
            task,
            family=self.name,
            expected=f"{LEAST_ROWS} rows or more of 16-bit floats times packed matrices whose "
            "codes such floats hold, on compute capability 9.0",
        )
        self._workload, self._target = task.workload, task.target
        counts = [tiles_of_output(self._problem, i) for i in range(len(self._problem.outputs))]
        self._largest = counts.index(max(counts))

    def schedule(self, values: Values) -> FusedSchedule:
        """The decisions that knob values stand for."""
        persistent = values["blocks"] == "persistent"
        return FusedSchedule(
            multipliers=int(values["multipliers"]),
            tile_column=int(values["tile_column"]),
            stages=int(values["stages"]),
            blocks_per_core=int(values["blocks_per_core"]),
            group=int(values["group"]),
            splits=int(values["splits"]),
            cluster=int(values["cluster"]),
            ahead=int(values["ahead"]),
            turns=values["order"] == "in_turns",
            n_blocks=self._slots(int(values["blocks_per_core"])) if persistent else 0,
        )

    def _slots(self, blocks_per_core: int) -> int:
        return self._target.n_cores // 2 * 2 * blocks_per_core

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule = self.schedule(values)
        return (
            self._shape_refusal(schedule)
            or self._order_refusal(schedule)
            or self._sharing_refusal(schedule)
            or resident_refusal(
                self._target,
                threads=WARPGROUP * (schedule.multipliers + 1),
                shared_bytes=schedule.shared_bytes,
                blocks_per_core=schedule.blocks_per_core,
            )
        )

    def _shape_refusal(self, schedule: FusedSchedule) -> str | None:
        registers = COPIER_AND_MULTIPLIER_REGISTERS.get(
            (schedule.multipliers, schedule.blocks_per_core)
        )
        if registers is None:
            return "several blocks of many warpgroups leave too few registers"
        width = tiles_of_output(self._problem, self._largest) * TILE_COLUMNS
        data = schedule.tile_column // 2 + piece_registers(self._problem, schedule)
        faults = {
            "sums, codes and floats do not fit into the registers of a thread": (
                data > MOST_DATA[registers[1]]
            ),
            "turns need several warpgroups": schedule.turns and schedule.multipliers == 1,
            "a warpgroup would have no columns": (
                schedule.multipliers > 1 and schedule.tile_row - width >= WARPGROUP // 2
            ),
            "half of the rows of a tile would not exist": (
                schedule.tile_column > 32 and schedule.tile_column >= 2 * self._problem.rows
            ),
        }
        return first_fault(faults)

    def _order_refusal(self, schedule: FusedSchedule) -> str | None:
        problem = self._problem
        steps = -(-problem.depth // K_STEP)
        per_split = steps_per_split(problem, schedule.splits)
        faults = {
            "parts of sums have one place": (
                schedule.splits > 1 and (len(problem.outputs) > 1 or problem.gated)
            ),
            "more stages than steps": schedule.stages > max(3, per_split),
            "more codes would be asked for than there are": (
                schedule.ahead > max(2, per_split * K_STEP // piece_depth(problem))
            ),
        }
        return first_fault(faults) or order_fault(
            steps=steps,
            per_split=per_split,
            splits=schedule.splits,
            works=n_works(problem, schedule, self._largest),
            slots=self._slots(schedule.blocks_per_core),
            group=schedule.group,
            row_tiles=row_tiles(problem, schedule, self._largest),
            persistent=schedule.n_blocks > 0,
        )

    def _sharing_refusal(self, schedule: FusedSchedule) -> str | None:
        """Neighbouring blocks share rows of ``x`` if tiles of a group come in whole clusters."""
        if schedule.cluster == 1:
            return None
        outputs = range(len(self._problem.outputs))
        tall = [row_tiles(self._problem, schedule, output) for output in outputs]
        faults = {
            "neighbouring tiles have other rows": schedule.group % schedule.cluster != 0,
            "tiles do not come in pairs of equal rows": any(n % schedule.cluster for n in tall),
            "a share of the rows is no whole number of copies": (
                schedule.tile_column // schedule.cluster % 8 != 0
            ),
        }
        return first_fault(faults)

    @cached_property
    def estimates(self) -> np.ndarray:
        """Of the largest output; see :class:`KnobSpace`."""
        schedules = map(self.schedule, self.points)
        n_cores, output = self._target.n_cores, self._largest
        cycles = [fused_cycles(self._problem, one, output, n_cores) for one in schedules]
        return np.array(cycles)

    def program(self, values: Values) -> Any:
        """The bound program: a launch per output, or two that split one's sums."""
        problem, schedule = self._problem, self.schedule(values)
        split = partial_sums(endings_of(problem)[0], schedule.splits)
        return cuda_program(self._workload, launches(problem, schedule), workspaces=split)

    def numbers(self, values: Values) -> list[float]:
        """log2 of works, waves, sums, bytes in flight, intensity; padding, idle share."""
        schedule, problem = self.schedule(values), self._problem
        works = n_works(problem, schedule, self._largest)
        waves = works / self._slots(schedule.blocks_per_core)
        area = schedule.tile_row * schedule.tile_column
        width = tiles_of_output(problem, self._largest) * TILE_COLUMNS
        return [
            float(np.log2(works)),
            float(np.log2(waves)),
            float(np.log2(area / (WARPGROUP * schedule.multipliers))),
            float(np.log2(schedule.stages * schedule.stage_bytes * schedule.blocks_per_core)),
            float(np.log2(area / (schedule.tile_row + schedule.tile_column))),
            problem.rows * width / (works // schedule.splits * area),
            waves / float(np.ceil(waves)),
        ]
