"""The family of products with quantised matrices: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from schedules.errors import UnknownSpace
from schedules.gemv_dequant_cuda import (
    ROWS_PER_PASS,
    GemvSchedule,
    gemv_cuda,
    n_steps,
    shared_bytes,
    step_groups,
    step_units,
)
from schedules.gemv_dequant_problem import GemvProblem, gemv_problem
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import launch_refusal
from schedules.task import Task

FIRST_ARCH = 80
MOST_REGISTERS = 200
REGISTERS_BESIDE_DATA = 40
THREADS_PER_CORE = 2048


def gemv_dequant_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    target = task.target
    if target.kind != "cuda" or _arch_number(target.arch) < FIRST_ARCH:
        return None
    return None if gemv_problem(task.workload) is None else GemvDequantSpace(task)


def _arch_number(arch: str) -> int:
    digits = "".join(letter for letter in arch if letter.isdigit())
    return int(digits or 0)


class GemvDequantSpace(KnobSpace):
    """How warps share columns and depth, and how much each has in flight."""

    name = "gemv_dequant"

    def __init__(self, task: Task) -> None:
        problem = gemv_problem(task.workload)
        if problem is None:
            raise UnknownSpace(
                f"the gemv_dequant family does not cover {task.workload.name}: expected packed "
                "codes, and x, scales and output of one 16-bit float type with few rows."
            )
        self._problem: GemvProblem = problem
        self._workload = task.workload
        self._target = task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Warps along depth and columns, tiles per warp, loads in flight, blocks, place of x."""
        # Rows of x that are no multiple of 16 bytes cannot be read in place.
        places = ("shared", "global") if self._problem.depth % 8 == 0 else ("shared",)
        return (
            Knob(name="warps_k", values=(1, 2, 4, 8, 16, 32)),
            Knob(name="warps_n", values=(1, 2, 4, 8)),
            Knob(name="tiles", values=(1, 2, 4)),
            Knob(name="in_flight", values=(1, 2, 3, 4, 6, 8)),
            Knob(name="blocks_k", values=(1, 2, 4)),
            Knob(name="x", values=places),
        )

    def schedule(self, values: Values) -> GemvSchedule:
        """The decisions that knob values stand for."""
        return GemvSchedule(
            warps_k=int(values["warps_k"]),
            warps_n=int(values["warps_n"]),
            tiles=int(values["tiles"]),
            in_flight=int(values["in_flight"]),
            blocks_k=int(values["blocks_k"]),
            x_shared=values["x"] == "shared",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule, problem = self.schedule(values), self._problem
        steps = n_steps(problem)
        shares = schedule.warps_k * schedule.blocks_k
        registers = self._registers(schedule)
        faults = {
            "some warps would have no step of the depth": shares > steps,
            "more steps would be in flight than a warp has": (
                schedule.in_flight > -(-steps // shares)
            ),
            "a block would have more tiles than there are": (
                schedule.block_tiles > 1 and schedule.block_tiles >= 2 * problem.n_tiles
            ),
            f"more than {MOST_REGISTERS} registers per thread": registers > MOST_REGISTERS,
        }
        for reason, applies in faults.items():
            if applies:
                return reason
        return launch_refusal(
            self._target,
            threads_per_block=schedule.n_threads,
            registers_per_thread=registers,
            shared_bytes=shared_bytes(problem, schedule),
        )

    def _loads(self, schedule: GemvSchedule) -> int:
        """16-byte loads of codes that a thread has in flight."""
        per_step = step_units(self._problem) * self._problem.n_loads
        return schedule.in_flight * schedule.tiles * per_step

    def _registers(self, schedule: GemvSchedule) -> int:
        problem = self._problem
        m_tiles = -(-min(problem.rows, ROWS_PER_PASS) // 8)
        scales = schedule.in_flight * schedule.tiles * step_groups(problem)
        # Up to four classes of products, and the totals, of four sums each.
        sums = (
            4
            * m_tiles
            * (schedule.tiles * (_n_classes(problem) + 1) + (4 if problem.has_zeros else 2))
        )
        held = 4 * self._loads(schedule) + scales * (2 if problem.has_zeros else 1)
        return REGISTERS_BESIDE_DATA + held + sums + 4 * m_tiles

    def program(self, values: Values) -> Any:
        """The bound program."""
        return gemv_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, of blocks, waves and bytes in flight per core; registers; balance."""
        schedule, problem = self.schedule(values), self._problem
        registers = self._registers(schedule)
        blocks = -(-problem.n_tiles // schedule.block_tiles) * schedule.blocks_k
        resident = min(
            THREADS_PER_CORE // schedule.n_threads,
            max(1, self._target.registers_per_block // (registers * schedule.n_threads)),
        )
        on_core = min(resident, -(-blocks // self._target.n_cores))
        in_flight = on_core * schedule.n_threads * self._loads(schedule) * 16
        shares = schedule.warps_k * schedule.blocks_k
        steps = n_steps(problem)
        waves = blocks / (resident * self._target.n_cores)
        return [
            float(np.log2(schedule.n_threads)),
            float(np.log2(blocks)),
            float(np.log2(waves)),
            float(np.log2(in_flight)),
            float(registers),
            steps / shares / -(-steps // shares),
            waves / float(np.ceil(waves)),
            float(np.log2(steps / shares)),
        ]


def _n_classes(problem: GemvProblem) -> int:
    """Accumulators per output: places in a half word that differ in weight."""
    half = {2: 4, 3: 3, 4: 2, 8: 1}
    brain = {2: 3, 3: 2, 4: 1, 8: 2}
    return (half if problem.dtype == "float16" else brain)[problem.bits]
