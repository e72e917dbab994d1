"""The matrix-product family on Hopper: knobs of its program behind the design-space protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from schedules.contraction import Contraction, Operand
from schedules.contraction_problem import contraction_of
from schedules.covering import required, unless_empty
from schedules.dtypes import HALF
from schedules.judged_space import MOST_SLOWER, promising
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.matmul_costs import product_cycles
from schedules.matmul_cuda import (
    COPIER_AND_MULTIPLIER_REGISTERS,
    K_STEP,
    SUM_COLUMNS,
    WARPGROUP,
    MatmulSchedule,
    asks_ahead,
    by_depth,
    matmul_cuda,
    n_columns,
    n_rows,
    n_works,
)
from schedules.resident_blocks import resident_refusal
from schedules.task import Task
from schedules.tile_order import order_fault

ALIGNED_ELEMENTS = 8
MOST_SHARING = 4
"""Blocks that copy columns for each other."""
MOST_SUMS = {240: 192, 208: 128, 160: 96}
"""Accumulators per thread that leave room for addresses, by registers of a multiplier."""


def matmul_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = contraction_of(task.workload) if task.target.is_hopper else None
    if problem is None or not takes(problem):
        return None
    return unless_empty(MatmulSpace(task, problem))


def takes(problem: Contraction) -> bool:
    """Whether the tensor memory accelerator can read both operands: lines of 16-byte multiples."""
    halves = problem.dtype in HALF
    return halves and _reaches(problem.a, problem.m) and _reaches(problem.b, problem.n)


def _reaches(operand: Operand, extent: int) -> bool:
    if 1 not in (operand.row, operand.depth):
        return False
    line = (operand.row if by_depth(operand) else operand.depth) or ALIGNED_ELEMENTS
    if extent == 1 and not by_depth(operand):
        return False
    return line > 0 and line % ALIGNED_ELEMENTS == 0 and operand.batch % ALIGNED_ELEMENTS == 0


class MatmulSpace(KnobSpace):
    """Tiles, warpgroups, stages, order and splitting of one product."""

    name = "matmul"

    def __init__(self, task: Task, problem: Contraction | None = None) -> None:
        self._problem = required(
            problem or contraction_of(task.workload),
            task,
            family=self.name,
            expected="one product of float16 or bfloat16 operands with an elementwise ending",
        )
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Orientation, tile, warpgroups, stages, residency, order, splits, clusters, persistence.

        Blocks of a cluster share columns or, where the sum is split, add its parts.
        """
        return (
            Knob(name="orientation", values=("straight", "swapped")),
            Knob(name="tile_row", values=(64, 128, 192, 256)),
            Knob(name="tile_column", values=(16, 32, 64, 96, 128, 192, 256)),
            Knob(name="multipliers", values=(1, 2, 3)),
            Knob(name="stages", values=(2, 3, 4, 6, 8)),
            Knob(name="blocks_per_core", values=(1, 2)),
            Knob(name="group", values=(1, 4, 8, 16)),
            Knob(name="splits", values=(1, 2, 4, 8)),
            Knob(name="cluster", values=(1, 2, 4, 8)),
            Knob(name="blocks", values=("one_per_tile", "persistent")),
        )

    def schedule(self, values: Values) -> MatmulSchedule:
        """The decisions that knob values stand for."""
        decided = self._decided(values)
        works = n_works(self._problem, decided)
        if values["blocks"] == "persistent":
            works = self._busy_blocks(works, decided)
        return replace(decided, n_blocks=works)

    def _busy_blocks(self, works: int, decided: MatmulSchedule) -> int:
        """The fewest blocks that need no more turns than all that fit: the others would idle."""
        size = decided.cluster * decided.parts
        slots = self._target.n_cores * decided.blocks_per_core // size
        clusters = works // size
        turns = -(-clusters // slots)
        return -(-clusters // turns) * size

    def _decided(self, values: Values) -> MatmulSchedule:
        """Everything but the number of blocks, which follows: tens of thousands are looked at."""
        cluster, splits = int(values["cluster"]), int(values["splits"])
        adds = cluster > 1 and splits > 1
        return MatmulSchedule(
            swapped=values["orientation"] == "swapped",
            tile_row=int(values["tile_row"]),
            tile_column=int(values["tile_column"]),
            multipliers=int(values["multipliers"]),
            stages=int(values["stages"]),
            blocks_per_core=int(values["blocks_per_core"]),
            group=int(values["group"]),
            splits=1 if adds else splits,
            cluster=1 if adds else cluster,
            parts=splits if adds else 1,
            n_blocks=1,
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule = self._decided(values)
        return (
            self._shape_refusal(schedule)
            or self._order_refusal(values, schedule)
            or self._sharing_refusal(schedule)
            or self._adding_refusal(values, schedule)
            or resident_refusal(
                self._target,
                threads=WARPGROUP * (schedule.multipliers + 1),
                shared_bytes=schedule.shared_bytes,
                blocks_per_core=schedule.blocks_per_core,
            )
        )

    def _shape_refusal(self, schedule: MatmulSchedule) -> str | None:
        problem, swapped = self._problem, schedule.swapped
        registers = COPIER_AND_MULTIPLIER_REGISTERS.get(
            (schedule.multipliers, schedule.blocks_per_core)
        )
        if registers is None:
            return "several blocks of many warpgroups leave too few registers"
        sums = schedule.tile_row * schedule.tile_column // (WARPGROUP * schedule.multipliers)
        threads = WARPGROUP * (schedule.multipliers + 1) * schedule.blocks_per_core
        right = problem.a if swapped else problem.b
        rows, columns = n_rows(problem, swapped=swapped), n_columns(problem, swapped=swapped)
        faults = {
            "a warpgroup multiplies 64 rows at a time": (
                schedule.tile_row % (64 * schedule.multipliers) != 0
            ),
            f"{sums} accumulators per thread do not fit into its registers": (
                sums > MOST_SUMS[registers[1]]
            ),
            # The compiler sees what all threads have alike, not what multipliers claim later.
            "the sums of one instruction do not fit into the registers of a thread": (
                schedule.tile_column // 2 >= self._target.registers_per_block // threads
            ),
            "columns that are neighbours in memory are copied 64 at a time": (
                not by_depth(right) and schedule.tile_column % K_STEP != 0
            ),
            "swapping pays if the problem has more columns than rows": swapped and rows < columns,
            "half of the rows of a tile would not exist": (
                schedule.tile_row > 64 and schedule.tile_row >= 2 * rows
            ),
            "half of the columns of a tile would not exist": (
                schedule.tile_column > 16 and schedule.tile_column >= 2 * columns
            ),
        }
        return first_fault(faults)

    def _order_refusal(self, values: Values, schedule: MatmulSchedule) -> str | None:
        problem = self._problem
        steps = -(-problem.k // K_STEP)
        per_split = -(-steps // schedule.shares)
        if schedule.stages > max(2, per_split):
            return "more stages than steps"
        return order_fault(
            steps=steps,
            per_split=per_split,
            splits=schedule.shares,
            works=n_works(problem, schedule),
            slots=self._target.n_cores * schedule.blocks_per_core,
            group=schedule.group,
            row_tiles=-(-n_rows(problem, swapped=schedule.swapped) // schedule.tile_row),
            persistent=values["blocks"] == "persistent",
        )

    def _sharing_refusal(self, schedule: MatmulSchedule) -> str | None:
        """Neighbouring blocks share columns if tiles go down the rows first, an even number."""
        if schedule.cluster == 1:
            return None
        problem, swapped = self._problem, schedule.swapped
        right = problem.a if swapped else problem.b
        row_tiles = -(-n_rows(problem, swapped=swapped) // schedule.tile_row)
        share = schedule.tile_column // schedule.cluster
        faults = {
            f"more than {MOST_SHARING} blocks would wait for each other": (
                schedule.cluster > MOST_SHARING
            ),
            "neighbouring tiles have other columns": schedule.group % schedule.cluster != 0,
            "tiles do not come in pairs of equal columns": row_tiles % schedule.cluster != 0,
            "a share of the columns is no whole number of copies": (
                share % (8 if by_depth(right) else K_STEP) != 0
            ),
        }
        return first_fault(faults)

    def _adding_refusal(self, values: Values, schedule: MatmulSchedule) -> str | None:
        """Blocks of a cluster add parts of one tile, which lie where its terms were."""
        if schedule.parts == 1:
            return None
        faults = {
            "all blocks of a cluster have parts of the same sum": (
                values["cluster"] != schedule.parts
            ),
            "blocks that add parts have one tile": values["blocks"] == "persistent",
            "a share of the columns is no whole number of pieces": (
                schedule.tile_column % (SUM_COLUMNS * schedule.parts) != 0
            ),
            "sums do not fit where terms were": (
                schedule.sum_bytes > schedule.stages * schedule.stage_bytes
            ),
        }
        return first_fault(faults)

    @cached_property
    def estimates(self) -> np.ndarray:
        """See :class:`KnobSpace`."""
        problem, n_cores = self._problem, self._target.n_cores
        cycles = np.array(
            [
                product_cycles(problem, one, n_cores, cold=not asks_ahead(problem, one))
                for one in map(self.schedule, self.points)
            ]
        )
        return np.where(promising(cycles, MOST_SLOWER), cycles, np.inf)

    def program(self, values: Values) -> Any:
        """The bound program."""
        return matmul_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of works, waves, accumulators, bytes in flight, intensity; padding, idle share."""
        schedule, problem = self.schedule(values), self._problem
        works = n_works(problem, schedule)
        slots = self._target.n_cores * schedule.blocks_per_core
        waves = works / slots
        area = schedule.tile_row * schedule.tile_column
        computed = works // schedule.shares * area
        return [
            float(np.log2(works)),
            float(np.log2(waves)),
            float(np.log2(area / (WARPGROUP * schedule.multipliers))),
            float(np.log2(schedule.stages * schedule.stage_bytes * schedule.blocks_per_core)),
            float(np.log2(area / (schedule.tile_row + schedule.tile_column))),
            problem.batch * problem.m * problem.n / computed,
            waves / float(np.ceil(waves)),
        ]
