"""The attention family: knobs of its programs behind the design-space protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from schedules.attention_hopper import (
    HopperSchedule,
    accumulators,
    attention_hopper,
    n_tiles,
    registers,
    shared_bytes,
    window_pattern,
)
from schedules.attention_problem import AttentionProblem, attention_problem
from schedules.covering import required, unless_empty
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.limits import launch_refusal
from schedules.task import Task

WIDEST = 512
REGISTERS_BESIDE_ACCUMULATORS = 28
KEY_TILES = (32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256)


def attention_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = attention_problem(task.workload)
    if problem is None or not task.target.is_hopper or not loadable(problem):
        return None
    return unless_empty(HopperAttentionSpace(task))


def loadable(problem: AttentionProblem) -> bool:
    """Whether rows have the pitch and width that tensor maps and products allow."""
    widths = (problem.width, problem.value_width)
    return problem.value_part % 8 == 0 and all(w % 8 == 0 and w <= WIDEST for w in widths)


class HopperAttentionSpace(KnobSpace):
    """Warp-specialised programs: a producer and consumers of 64 query rows each."""

    name = "attention"
    knobs: tuple[Knob, ...] = (
        Knob(name="warpgroups", values=(1, 2, 3)),
        Knob(name="key_tile", values=KEY_TILES),
        Knob(name="stages", values=(1, 2, 3, 4)),
        Knob(name="turns", values=("free", "pingpong")),
        Knob(name="products", values=("in_turn", "overlapped")),
        Knob(name="blocks", values=("per_tile", "persistent")),
        Knob(name="order", values=("by_head", "longest_first")),
    )

    def __init__(self, task: Task) -> None:
        self._problem = required(
            attention_problem(task.workload),
            task,
            family=self.name,
            expected="queries, keys and values of rank 4 and one 16-bit dtype, without mask, "
            "lengths or softcap",
        )
        self._workload, self._target = task.workload, task.target

    def schedule(self, values: Values) -> HopperSchedule:
        """The decisions that knob values stand for."""
        made = HopperSchedule(
            warpgroups=int(values["warpgroups"]),
            key_tile=int(values["key_tile"]),
            stages=int(values["stages"]),
            pingpong=values["turns"] == "pingpong",
            overlap=values["products"] == "overlapped",
            blocks=self._target.n_cores,
            longest_first=values["order"] == "longest_first",
            splits=int(values.get("splits", 1)),
            early=values.get("launches") == "early",
        )
        if values["blocks"] == "persistent":
            return made
        return replace(made, blocks=n_tiles(self._problem, made))

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule, problem = self.schedule(values), self._problem
        key_steps = -(-problem.keys // schedule.key_tile)
        tiles = n_tiles(problem, schedule)
        _, budget = registers(problem, schedule)
        needed = accumulators(problem, schedule) + self.other_registers(schedule)
        faults = {
            f"{needed} registers per consumer thread are needed, {budget} are there": (
                needed > budget
            ),
            "turns need two consumers": schedule.pingpong and schedule.warpgroups < 2,
            "more stages than key tiles": schedule.stages > max(1, key_steps),
            "the key tile is longer than the keys": self._idle_half(schedule.key_tile),
            "a consumer would have no rows": (
                schedule.warpgroups > 1 and problem.queries <= schedule.query_tile - 64
            ),
            "overlapped products need two stages": schedule.overlap and schedule.stages < 2,
            "all tiles fit at once": values["blocks"] == "persistent"
            and tiles <= self._target.n_cores,
            "all tiles are equally long": schedule.longest_first and not self.is_uneven,
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.threads,
            registers_per_thread=min(budget, self._target.registers_per_block // schedule.threads),
            shared_bytes=shared_bytes(problem, schedule, plan_bytes=self.plan_bytes(schedule)),
        )

    @property
    def is_uneven(self) -> bool:
        """Whether some query tiles have more keys than others."""
        return self._problem.left is not None or self._problem.right is not None

    def other_registers(self, schedule: HopperSchedule) -> int:
        """Registers of a consumer thread beside scores, probabilities and outputs."""
        return REGISTERS_BESIDE_ACCUMULATORS

    def plan_bytes(self, schedule: HopperSchedule) -> int:
        """Shared memory beside tiles and barriers."""
        return 0

    def _idle_half(self, key_tile: int) -> bool:
        return key_tile > self._key_tiles[0] and key_tile >= 2 * self._problem.keys

    @property
    def _key_tiles(self) -> tuple[int, ...]:
        (knob,) = (knob for knob in self.knobs if knob.name == "key_tile")
        return tuple(int(value) for value in knob.values)

    def program(self, values: Values) -> Any:
        """The bound program."""
        schedule = self.schedule(values)
        pattern = window_pattern(self._problem, schedule)
        return attention_hopper(self._workload, self._problem, schedule, pattern)

    @cached_property
    def _pairs(self) -> int:
        return self._problem.pairs

    def numbers(self, values: Values) -> list[float]:
        """Waves, their fill, work done for work wanted, shared bytes, registers."""
        schedule, problem = self.schedule(values), self._problem
        tiles = n_tiles(problem, schedule)
        waves = tiles / self._target.n_cores
        rows = tiles * schedule.query_tile / (problem.batch * problem.heads)
        columns = -(-problem.keys // schedule.key_tile) * schedule.key_tile
        return [
            float(np.log2(waves)),
            waves / float(np.ceil(waves)),
            rows / problem.queries,
            columns / problem.keys,
            self._pairs / (problem.queries * problem.keys),
            shared_bytes(problem, schedule) / self._target.shared_memory_per_block_bytes,
            float(accumulators(problem, schedule)),
        ]
