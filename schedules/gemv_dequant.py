"""The family of products with quantised matrices: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from schedules.covering import required
from schedules.gemv_dequant_costs import MOST_REGISTERS, costs, needs
from schedules.gemv_dequant_cuda import gemv_cuda
from schedules.gemv_dequant_layout import GemvSchedule, may_be_floats, n_steps
from schedules.gemv_dequant_problem import MOST_ROWS, gemv_problem
from schedules.judged_space import Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.target import PORTABLE_CLUSTER
from schedules.task import Task

# Tiles per core, with those of the shares of the depth, from which every core is busy.
MANY_TILES = 4
# With more rows it pays that a block holds a part of x only.
FEW_ROWS = 2
MOST_BLOCKS_K = 32
# Estimates of small products are off by more than those of others.
PATIENCE = 1.5
# Cores lie in groups of 16 or 18, and a cluster in one of them.
CLUSTER_CORES = 16


def gemv_dequant_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    problem = gemv_problem(task.workload) if task.target.has_async_copies else None
    return None if problem is None or problem.rows > MOST_ROWS else GemvDequantSpace(task)


class GemvDequantSpace(JudgedSpace):
    """How warps share columns and depth, and how much each has in flight.

    Args:
        task: What to compute.
        patience: See :class:`JudgedSpace`.
    """

    name = "gemv_dequant"

    def __init__(self, task: Task, *, patience: float = PATIENCE) -> None:
        self._problem = required(
            gemv_problem(task.workload),
            task,
            family=self.name,
            expected="packed codes, scales and outputs of one float type, and x of that type "
            "or int8",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Warps along depth and columns, blocks, loads in flight and how they come.

        ``bulk`` is how many steps one bulk copy brings; 0 stands for loads into registers.
        """
        steps, tiles = n_steps(self._problem), self._problem.n_tiles
        most_blocks = tiles * min(steps, MOST_BLOCKS_K)

        def up_to(most: int, *values: int) -> tuple[int, ...]:
            return tuple(value for value in values if value <= most)

        blocks = up_to(1 + (most_blocks - 1) // self._target.n_cores, 1, 2, 3, 4, 6, 8)
        return (
            Knob(name="warps_k", values=up_to(steps, 1, 2, 4, 8, 16, 32)),
            Knob(name="warps_n", values=up_to(tiles, 1, 2, 4, 8, 16)),
            Knob(name="blocks_per_core", values=blocks),
            Knob(name="blocks_k", values=up_to(steps, 1, 2, 4, 8, 16, MOST_BLOCKS_K)),
            Knob(name="in_flight", values=(1, 2, 3, 4)),
            Knob(name="bulk", values=(0, 1, 2, 4, 8) if self._target.has_clusters else (0,)),
            Knob(name="floats", values=self._floats()),
        )

    def _floats(self) -> tuple[int, ...]:
        """Of one or two rows, digits cost no more than one product per code in any case."""
        several = self._problem.rows > FEW_ROWS
        return (0, 1) if several and may_be_floats(self._problem) else (0,)

    def _decided(self, values: Mapping[str, Grid]) -> GemvSchedule:
        """The decisions that knob values stand for, of one point or of many."""
        problem, bulk = self._problem, values["bulk"]
        blocks_n = self._blocks_n(values["blocks_per_core"], values)
        most_steps = ceil_div(n_steps(problem), values["warps_k"] * values["blocks_k"])
        return GemvSchedule(
            warps_k=values["warps_k"],
            warps_n=values["warps_n"],
            blocks_n=np.clip(blocks_n, 1, problem.n_tiles // values["warps_n"]),
            blocks_k=values["blocks_k"],
            in_flight=values["in_flight"],
            piece=np.clip(bulk, 1, most_steps),
            bulk=bulk > 0,
            early=self._target.has_clusters,
            floats=values["floats"] > 0,
            cluster=self._is_cluster(values["blocks_k"]),
        )

    def _blocks_n(self, blocks_per_core: Grid, values: Mapping[str, Grid]) -> Grid:
        """Blocks along the columns, if there are tiles for all of them."""
        n_cores = self._target.n_cores
        in_groups = n_cores // CLUSTER_CORES * CLUSTER_CORES
        clusters = blocks_per_core * in_groups // values["blocks_k"]
        alone = ceil_div(blocks_per_core * n_cores, values["blocks_k"])
        return np.where(self._is_cluster(values["blocks_k"]), clusters, alone)

    def _is_cluster(self, blocks_k: Grid) -> Grid:
        """Whether blocks that share the depth meet in shared memory."""
        few = (blocks_k > 1) & (blocks_k <= PORTABLE_CLUSTER)
        return few & self._target.has_clusters

    def schedule(self, values: Values) -> GemvSchedule:
        """The decisions that the knob values of a point stand for, as plain numbers."""
        found = self._decided(whole_numbers(values))
        decided = {one.name: np.asarray(getattr(found, one.name)).item() for one in fields(found)}
        return GemvSchedule(**decided)

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem = self._problem
        schedule = self._decided(values)
        needed = needs(problem, self._target, schedule)
        fewer = self._blocks_n(values["blocks_per_core"] - 1, values)
        return {
            "a block has too many threads": (
                schedule.n_threads > self._target.max_threads_per_block
            ),
            "some warps would have no step of the depth": (
                schedule.warps_k * schedule.blocks_k > n_steps(problem)
            ),
            "fewer blocks per core already hold every tile": (
                fewer * schedule.warps_n >= problem.n_tiles
            ),
            "more would be in flight than a warp has": schedule.in_flight > needed.pieces,
            "smaller pieces already are all of a tile": (
                values["bulk"] >= 2 * schedule.most_steps(problem)
            ),
            f"more than {MOST_REGISTERS} registers per thread": needed.registers > MOST_REGISTERS,
            "a block does not fit a core": needed.resident < 1,
            "fewer shares of the depth keep every core busy": self._has_needless_shares(schedule),
        }

    def _has_needless_shares(self, schedule: GemvSchedule) -> Grid:
        """Whether a second launch adds more sums than it must, of few rows."""
        problem = self._problem
        half = np.maximum(1, schedule.blocks_k // 2)
        busy = problem.n_tiles * half >= MANY_TILES * self._target.n_cores
        fits = needs(problem, self._target, replace(schedule, blocks_k=half)).resident >= 1
        is_second = (schedule.blocks_k > 1) & np.logical_not(schedule.cluster)
        return is_second & busy & fits & (problem.rows <= FEW_ROWS)

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        return costs(self._problem, self._target, self._decided(values)).total

    def program(self, values: Values) -> Any:
        """The bound program."""
        return gemv_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, of blocks, waves and bytes in flight per core; registers; balance."""
        schedule, problem = self.schedule(values), self._problem
        needed = needs(problem, self._target, schedule)
        cost = costs(problem, self._target, schedule)
        blocks = schedule.blocks_n * schedule.blocks_k
        shares = schedule.warps_k * schedule.blocks_k
        steps = n_steps(problem)
        waves = blocks / (int(needed.resident) * self._target.n_cores)
        tiles = problem.n_tiles / (schedule.blocks_n * schedule.warps_n)
        return [
            float(np.log2(cost.total)),
            float(np.log2(schedule.n_threads)),
            float(np.log2(blocks)),
            float(np.log2(waves)),
            float(np.log2(cost.in_flight_bytes)),
            float(needed.registers),
            steps / shares / -(-steps // shares),
            waves / float(np.ceil(waves)),
            float(np.log2(steps / shares)),
            float(np.log2(tiles)),
        ]
