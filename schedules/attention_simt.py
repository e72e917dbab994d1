"""Float32 attention on ordinary arithmetic units: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.attention_decode_problem import DecodeProblem, extended_problem
from schedules.attention_simt_cuda import (
    WARP,
    AttentionSimtSchedule,
    attention_simt_cuda,
    n_blocks,
    shared_floats,
)
from schedules.covering import required
from schedules.judged_space import Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD
from schedules.matmul_simt_costs import (
    BLOCK_CYCLES,
    CACHE_BYTES_PER_CYCLE,
    FMA_PER_CYCLE,
    STEP_CYCLES,
)
from schedules.resident_blocks import resident_blocks
from schedules.task import Task

WIDEST = 256
ADDRESS_REGISTERS = 60
SOFTMAX_CYCLES = 120.0
"""Of one row's maximum and exponentials in one tile, by one warp."""


def attention_simt_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    if not task.target.has_async_copies or _problem(task) is None:
        return None
    return AttentionSimtSpace(task)


def _problem(task: Task) -> DecodeProblem | None:
    problem = extended_problem(task.workload, dtypes=("float32",))
    if problem is None or problem.starts is not None:
        return None
    widths = (problem.plain.width, problem.plain.value_width)
    return problem if all(w % 4 == 0 and w <= WIDEST for w in widths) else None


class AttentionSimtSpace(JudgedSpace):
    """Queries and keys of warps, warps of blocks, stages.

    Args:
        task: What to compute.
        patience: See :class:`JudgedSpace`.
    """

    name = "attention_simt"
    knobs = (
        Knob(name="rows", values=(1, 2, 4, 8, 16)),
        Knob(name="warps_row", values=(1, 2, 4, 8, 16)),
        Knob(name="warps_key", values=(1, 2, 4, 8)),
        Knob(name="key_tile", values=(32, 64, 128)),
        Knob(name="stages", values=(1, 2)),
    )

    def __init__(self, task: Task, *, patience: float = 2.0) -> None:
        self._whole = required(
            _problem(task),
            task,
            family=self.name,
            expected=f"float32 tensors of rank 4, at most {WIDEST} wide, of one sequence each",
        )
        self._problem = self._whole.plain
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    def _registers(self, values: Mapping[str, Grid]) -> Grid:
        """Of a thread, estimated: sums, scores, probabilities, queries and keys being read."""
        per_lane = values["key_tile"] // WARP
        columns = ceil_div(self._problem.value_width, WARP)
        return values["rows"] * (columns + per_lane + 8) + 4 * per_lane + ADDRESS_REGISTERS

    def _threads(self, values: Mapping[str, Grid]) -> Grid:
        return WARP * values["warps_row"] * values["warps_key"]

    def _resident(self, values: Mapping[str, Grid]) -> Grid:
        """Blocks that fit a multiprocessor."""
        return resident_blocks(
            self._target,
            threads=self._threads(values),
            registers=self._registers(values),
            shared_bytes=4 * shared_floats(self._problem, dict(values)),
            most_threads=2048,
        )

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem = self._problem
        queries = values["rows"] * values["warps_row"]
        keys = values["warps_key"] * values["key_tile"]
        return {
            "a block has at most 1024 threads": (
                self._threads(values) > self._target.max_threads_per_block
            ),
            "too many registers for a thread": self._registers(values) > MOST_REGISTERS_PER_THREAD,
            "a block does not fit a multiprocessor": self._resident(values) < 1,
            "half of the queries of a block would not exist": (
                (queries > 1) & (queries >= 2 * problem.queries)
            ),
            "half of the keys of a step would not exist": (
                (keys > WARP) & (keys >= 2 * problem.keys)
            ),
            "more stages than steps": (
                values["stages"] > np.maximum(1, ceil_div(problem.keys, keys))
            ),
        }

    @cached_property
    def _keys_per_query(self) -> float:
        problem = self._problem
        return problem.pairs / max(1, problem.queries)

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        problem = self._problem
        rows, queries = values["rows"], values["rows"] * values["warps_row"]
        step = values["warps_key"] * values["key_tile"]
        steps = np.maximum(1, self._keys_per_query / step + 0.5 * (problem.right is not None))
        blocks = ceil_div(n_blocks(problem, dict(values)), self._target.n_cores)
        at_once = np.clip(self._resident(values), 1, blocks)
        warps = values["warps_row"] * values["warps_key"]
        width = problem.width + problem.value_width
        products = queries * steps * step * width / FMA_PER_CYCLE
        # Keys and values are read by every warp of other rows: a lane's float per cycle and bank.
        shared = warps * steps * values["key_tile"] * width / WARP * (1 + rows / 4)
        softmax = warps * steps * rows * SOFTMAX_CYCLES / 4
        alone = steps * (rows * values["key_tile"] * width / WARP * 1.5 + rows * SOFTMAX_CYCLES)
        memory = blocks * steps * step * width * 4 / CACHE_BYTES_PER_CYCLE
        busy = blocks * (np.maximum(products, shared) + softmax)
        rounds = ceil_div(blocks, np.maximum(1, at_once))
        return np.maximum(np.maximum(busy, memory), rounds * alone) + rounds * (
            BLOCK_CYCLES + steps * STEP_CYCLES * 4 / values["stages"]
        )

    def schedule(self, values: Values) -> AttentionSimtSchedule:
        """The decisions that knob values stand for."""
        chosen = whole_numbers(values)
        return AttentionSimtSchedule(**chosen, min_blocks=int(self._resident(chosen)))

    def program(self, values: Values) -> Any:
        """The bound program."""
        return attention_simt_cuda(self._workload, self._whole, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles, blocks, waves, threads; registers."""
        chosen = whole_numbers(values)
        blocks = int(n_blocks(self._problem, dict(chosen)))
        slots = self._target.n_cores * int(self._resident(chosen))
        return [
            float(np.log2(self.estimate(chosen))),
            float(np.log2(blocks)),
            float(np.log2(blocks / slots)),
            float(np.log2(self._threads(chosen))),
            float(self._registers(chosen)) / MOST_REGISTERS_PER_THREAD,
        ]
