"""Head-wise arrow attention: the attention family's programs with tiles by head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from schedules.attention import HopperAttentionSpace, loadable
from schedules.attention_hopper import (
    HopperSchedule,
    Pattern,
    accumulators,
    attention_hopper,
    n_tiles,
    shared_bytes,
)
from schedules.covering import required, unless_empty
from schedules.dtypes import CUDA_TYPES
from schedules.headwise_problem import ARROW, GRAIN, OP, HeadwiseProblem, headwise_problem
from schedules.knobs import Knob, KnobSpace, Values
from schedules.task import Task

# Of the device's ``Plan``: four numbers and three per head, in whole 16 bytes.
PLAN_NUMBERS, PLAN_NUMBERS_PER_HEAD = 4, 3


def headwise_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = headwise_problem(task.workload)
    if problem is None or not task.target.is_hopper or not loadable(problem.dense):
        return None
    if problem.dense.value_parts > 1:
        return None
    return unless_empty(HeadwiseSpace(task))


def headwise_pattern(problem: HeadwiseProblem) -> Pattern:
    """Tiles by head; modes and cached rows are read on the device."""
    sources = {"modes": (problem.modes_name, "const int")}
    if problem.cache_name is not None:
        element = CUDA_TYPES[problem.dense.dtype]
        sources["cache"] = (problem.cache_name, f"const {element}")
    return Pattern(
        files=("attention_headwise.cuh", "attention_ranges.cuh"),
        constants={
            "IMAGE_TOKENS": problem.image_tokens,
            "TEXT_TOKENS": problem.text_tokens,
            "TEXT_FIRST": int(problem.text_first),
        },
        sources=sources,
        plan_bytes=plan_bytes(problem),
    )


def plan_bytes(problem: HeadwiseProblem) -> int:
    """Shared memory of the device's ``Plan``."""
    n_numbers = PLAN_NUMBERS + PLAN_NUMBERS_PER_HEAD * problem.dense.heads
    return -(-4 * n_numbers // 16) * 16


class HeadwiseSpace(HopperAttentionSpace):
    """The knobs of attention; the order of the tiles is the program's own."""

    name = OP
    knobs = (
        *(knob for knob in HopperAttentionSpace.knobs if knob.name != "order"),
        Knob(name="cluster", values=(1, 2)),
    )

    def __init__(self, task: Task) -> None:
        self._headwise = required(
            headwise_problem(task.workload),
            task,
            family=self.name,
            expected="queries, keys and values of rank 4 and one 16-bit dtype",
        )
        self._problem = self._headwise.dense
        self._workload, self._target = task.workload, task.target

    def schedule(self, values: Values) -> HopperSchedule:
        """The decisions that knob values stand for."""
        made = super().schedule({**values, "order": "by_head"})
        cluster = int(values["cluster"])
        return replace(made, cluster=cluster, blocks=made.blocks // cluster * cluster)

    def refusal(self, values: Values) -> str | None:
        """As of attention; clusters share keys where they have several tiles."""
        if int(values["cluster"]) > 1 and values["blocks"] != "persistent":
            return "clusters are for blocks that take several tiles"
        return super().refusal(values)

    def plan_bytes(self, schedule: HopperSchedule) -> int:
        """Shared memory beside tiles and barriers."""
        return plan_bytes(self._headwise)

    def program(self, values: Values) -> Any:
        """The bound program."""
        pattern = headwise_pattern(self._headwise)
        return attention_hopper(self._workload, self._problem, self.schedule(values), pattern)

    def numbers(self, values: Values) -> list[float]:
        """Work per processor in key steps, its longest tile, done for wanted, memory, registers."""
        schedule, problem = self.schedule(values), self._problem
        steps = arrow_steps(self._headwise, schedule)
        longest = -(-problem.keys // schedule.key_tile)
        total = float(steps.sum()) * problem.batch
        done = total * schedule.query_tile * schedule.key_tile
        wanted = max(1, problem.batch * self._headwise.pairs)
        return [
            float(np.log2(max(total, 1.0) / self._target.n_cores)),
            longest * self._target.n_cores / max(total, 1.0),
            done / wanted,
            n_tiles(problem, schedule) / self._target.n_cores,
            shared_bytes(problem, schedule) / self._target.shared_memory_per_block_bytes,
            float(accumulators(problem, schedule)),
        ]


def arrow_steps(problem: HeadwiseProblem, schedule: HopperSchedule) -> np.ndarray:
    """Key steps of every tile of every head as the device counts them; (heads, query tiles)."""
    kinds = np.array([kind for kind, _ in problem.modes])[:, None]
    reach = np.array([-(-width // GRAIN) for _, width in problem.modes])[:, None]
    text, key_tile, keys = problem.text_blocks, schedule.key_tile, problem.dense.keys
    team = schedule.warpgroups * schedule.cluster
    first = np.arange(0, problem.n_blocks, team)[None, :]
    end = np.minimum(first + team, problem.n_blocks)
    second = np.minimum(first + schedule.warpgroups, end)
    low, high = _windows(problem, first, end, reach)
    text_keys = min(text.stop * GRAIN, keys) - text.start * GRAIN if text else 0
    whole, window = -(-keys // key_tile), -(-(high - low) // key_tile)
    # Blocks of a cluster do without as many steps each, at either end.
    spared_first = window - -(-(_windows(problem, first, second, reach)[1] - low) // key_tile)
    spared_second = (_windows(problem, second, end, reach)[0] - low) // key_tile
    spared = np.where(second < end, np.minimum(spared_first, spared_second), 0)
    steps = -(-text_keys // key_tile) + window - spared
    holds_text = (end > text.start) & (first < text.stop) if text else np.zeros_like(end, bool)
    steps = np.where(holds_text | (kinds != ARROW), whole, np.minimum(steps, whole))
    return np.repeat(np.where(kinds == 2, 0, steps), schedule.cluster, axis=1)


def _windows(
    problem: HeadwiseProblem, first: np.ndarray, end: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Image keys, from the first to before the second, that row blocks see through windows."""
    text = problem.text_blocks
    low, high = (first - reach) * GRAIN, (end + reach) * GRAIN
    low, high = np.maximum(low, 0), np.minimum(high, problem.dense.keys)
    if text and problem.text_first:
        low = np.maximum(low, text.stop * GRAIN)
    elif text:
        high = np.minimum(high, text.start * GRAIN)
    return low, np.maximum(low, high)
