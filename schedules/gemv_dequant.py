"""The family of products with quantised matrices: knobs behind the design-space protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from schedules.covering import required
from schedules.dtypes import ELEMENT_BYTES
from schedules.gemv_dequant_cuda import gemv_cuda
from schedules.gemv_dequant_layout import (
    LOAD_BYTES,
    GemvSchedule,
    arena,
    digits,
    may_be_floats,
    n_steps,
    rows_per_pass,
    slot_bytes,
    step_groups,
    step_units,
)
from schedules.gemv_dequant_problem import MOST_ROWS, gemv_problem
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.limits import launch_refusal
from schedules.target import PORTABLE_CLUSTER
from schedules.task import Task

MOST_REGISTERS = 200
# Estimates from compiled points: beside x, sums and codes, and per eight columns of x.
REGISTERS_OF_BULK = 24
REGISTERS_OF_LOADS = 34
REGISTERS_PER_X_TILE = 9
REGISTERS_PER_FLOAT_TILE = 12
THREADS_PER_CORE = 2048
SHARED_PER_BLOCK_OVERHEAD = 1024
# Of codes, per core: with less no device of these reaches its memory's rate (1.5 to 3.5 TB/s with
# 0.6 us of latency, shared by 108 to 132 cores).
LEAST_IN_FLIGHT = 8 * 1024
# Tiles per core, with those of the shares of the depth, from which every core is busy.
MANY_TILES = 4
# With more rows it pays that a block holds a part of x only.
FEW_ROWS = 2
MOST_BLOCKS_K = 32
# Clusters lie in groups of 16 or 18 cores.
CLUSTER_CORES = 16


def gemv_dequant_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    problem = gemv_problem(task.workload) if task.target.has_async_copies else None
    return None if problem is None or problem.rows > MOST_ROWS else GemvDequantSpace(task)


class GemvDequantSpace(KnobSpace):
    """How warps share columns and depth, and how much each has in flight."""

    name = "gemv_dequant"

    def __init__(self, task: Task) -> None:
        self._problem = required(
            gemv_problem(task.workload),
            task,
            family=self.name,
            expected="packed codes, scales and outputs of one float type, and x of that type "
            "or int8",
        )
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Warps along depth and columns, blocks, loads in flight and how they come.

        ``bulk`` is how many steps one bulk copy brings; 0 stands for loads into registers.
        """
        steps, tiles = n_steps(self._problem), self._problem.n_tiles
        early = self._target.has_clusters
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
            Knob(name="numbers", values=self._numbers()),
            Knob(name="combine", values=("launch", "cluster") if early else ("launch",)),
            Knob(name="ahead", values=("nothing", "x", "all") if early else ("nothing",)),
        )

    def _numbers(self) -> tuple[str, ...]:
        """Of one or two rows, digits cost no more than one product per code in any case."""
        several = self._problem.rows > FEW_ROWS
        return ("digits", "floats") if several and may_be_floats(self._problem) else ("digits",)

    def schedule(self, values: Values) -> GemvSchedule:
        """The decisions that knob values stand for."""
        warps_n, blocks_k = int(values["warps_n"]), int(values["blocks_k"])
        blocks_n = self._blocks_n(int(values["blocks_per_core"]), values)
        return GemvSchedule(
            warps_k=int(values["warps_k"]),
            warps_n=warps_n,
            blocks_n=max(1, min(blocks_n, self._problem.n_tiles // warps_n)),
            blocks_k=blocks_k,
            in_flight=int(values["in_flight"]),
            piece=max(1, min(int(values["bulk"]), self._most_steps(values))),
            bulk=int(values["bulk"]) > 0,
            early=self._target.has_clusters,
            floats=values["numbers"] == "floats",
            cluster=values["combine"] == "cluster",
            x_ahead=values["ahead"] != "nothing",
            weights_ahead=values["ahead"] == "all",
        )

    def _blocks_n(self, blocks_per_core: int, values: Values) -> int:
        """Blocks along the columns, if there are tiles for all of them."""
        blocks_k, n_cores = int(values["blocks_k"]), self._target.n_cores
        if values["combine"] == "cluster":
            return blocks_per_core * (n_cores // CLUSTER_CORES * CLUSTER_CORES) // blocks_k
        return -(-blocks_per_core * n_cores // blocks_k)

    def _most_steps(self, values: Values) -> int:
        """Steps of a tile that a warp has at most."""
        return -(-n_steps(self._problem) // (int(values["warps_k"]) * int(values["blocks_k"])))

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        if (
            32 * int(values["warps_k"]) * int(values["warps_n"])
            > self._target.max_threads_per_block
        ):
            return f"more than {self._target.max_threads_per_block} threads per block"
        schedule = self.schedule(values)
        return (
            self._repetition(values, schedule)
            or self._launch_refusal(schedule)
            or self._waste(schedule)
        )

    def _repetition(self, values: Values, schedule: GemvSchedule) -> str | None:
        """Points with idle warps, or that another point already stands for."""
        problem, most_steps = self._problem, self._most_steps(values)
        pieces = -(-most_steps // schedule.piece) * schedule.most_tiles(problem)
        fewer = self._blocks_n(int(values["blocks_per_core"]) - 1, values)
        faults = {
            "some warps would have no step of the depth": (
                schedule.warps_k * schedule.blocks_k > n_steps(problem)
            ),
            "fewer blocks per core already hold every tile": (
                fewer * schedule.warps_n >= problem.n_tiles
            ),
            "more would be in flight than a warp has": schedule.in_flight > pieces,
            "a cluster has 2 to 8 blocks": (
                schedule.cluster and not 2 <= schedule.blocks_k <= PORTABLE_CLUSTER
            ),
            "everything is asked for at once": (
                schedule.weights_ahead
                and schedule.in_flight * schedule.piece >= most_steps * schedule.most_tiles(problem)
            ),
            "smaller pieces already are all of a tile": int(values["bulk"]) >= 2 * most_steps,
            f"more than {MOST_REGISTERS} registers per thread": (
                self._registers(schedule) > MOST_REGISTERS
            ),
        }
        return first_fault(faults)

    def _launch_refusal(self, schedule: GemvSchedule) -> str | None:
        return launch_refusal(
            self._target,
            threads_per_block=schedule.n_threads,
            registers_per_thread=self._registers(schedule),
            shared_bytes=arena(self._problem, schedule).size,
        )

    def _waste(self, schedule: GemvSchedule) -> str | None:
        """Points that are slow on every device."""
        problem, n_cores = self._problem, self._target.n_cores
        busy = problem.n_tiles * (schedule.blocks_k // 2) >= MANY_TILES * n_cores
        if schedule.blocks_k > 1 and not schedule.cluster and busy and problem.rows <= FEW_ROWS:
            halved = replace(schedule, blocks_k=schedule.blocks_k // 2)
            if self._launch_refusal(halved) is None:
                return "fewer shares of the depth keep every core busy, and memory suffices"
        per_core = -(-problem.n_tiles // n_cores) * problem.n_units * problem.n_loads * LOAD_BYTES
        if self._in_flight_per_core(schedule) < min(LEAST_IN_FLIGHT, per_core):
            return "too little would be in flight to hide the latency of memory"
        return None

    def _step_loads(self) -> int:
        """16-byte loads of codes of a lane per step."""
        return step_units(self._problem) * self._problem.n_loads

    def _registers(self, schedule: GemvSchedule) -> int:
        problem = self._problem
        columns = digits(problem, schedule) * rows_per_pass(problem, schedule)
        per_tile = REGISTERS_PER_FLOAT_TILE if schedule.floats else REGISTERS_PER_X_TILE
        for_x = per_tile * -(-columns // 8)
        scale_words = ELEMENT_BYTES[problem.dtype] // 2
        per_step = 4 * self._step_loads()
        per_step += step_groups(problem) * (scale_words + problem.has_zeros)
        if schedule.bulk:
            return REGISTERS_OF_BULK + for_x + per_step
        return REGISTERS_OF_LOADS + for_x + per_step * schedule.in_flight

    def program(self, values: Values) -> Any:
        """The bound program."""
        return gemv_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, of blocks, waves and bytes in flight per core; registers; balance."""
        schedule, problem = self.schedule(values), self._problem
        registers = self._registers(schedule)
        blocks = schedule.blocks_n * schedule.blocks_k
        resident = self._resident(schedule)
        in_flight = self._in_flight_per_core(schedule)
        shares = schedule.warps_k * schedule.blocks_k
        steps = n_steps(problem)
        waves = blocks / (resident * self._target.n_cores)
        tiles = problem.n_tiles / (schedule.blocks_n * schedule.warps_n)
        return [
            float(np.log2(schedule.n_threads)),
            float(np.log2(blocks)),
            float(np.log2(waves)),
            float(np.log2(in_flight)),
            float(registers),
            steps / shares / -(-steps // shares),
            waves / float(np.ceil(waves)),
            float(np.log2(steps / shares)),
            float(np.log2(tiles)),
        ]

    def _resident(self, schedule: GemvSchedule) -> int:
        """Blocks that a core can hold at once."""
        shared = arena(self._problem, schedule).size + SHARED_PER_BLOCK_OVERHEAD
        threads, registers = schedule.n_threads, self._registers(schedule)
        return min(
            THREADS_PER_CORE // threads,
            max(1, self._target.registers_per_block // (registers * threads)),
            max(1, self._target.shared_memory_per_block_bytes // shared),
        )

    def _in_flight_per_core(self, schedule: GemvSchedule) -> int:
        """Bytes that a core has asked for at once."""
        blocks = schedule.blocks_n * schedule.blocks_k
        on_core = min(self._resident(schedule), -(-blocks // self._target.n_cores))
        return on_core * self._bytes_in_flight(schedule)

    def _bytes_in_flight(self, schedule: GemvSchedule) -> int:
        """Of a block."""
        if schedule.bulk:
            per_warp = schedule.in_flight * slot_bytes(self._problem, schedule)
        else:
            per_warp = schedule.in_flight * self._step_loads() * 32 * 16
        return per_warp * schedule.warps_k * schedule.warps_n
