"""Attention of 16-bit floats by products of warps: knobs behind the design-space protocol."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from schedules.attention_decode_problem import DecodeProblem, extended_problem
from schedules.attention_mma_cuda import (
    WARP,
    AttentionMmaSchedule,
    attention_mma_cuda,
    n_blocks,
    shared_bytes,
)
from schedules.covering import required, unless_empty
from schedules.judged_space import MOST_SLOWER, Grid, JudgedSpace, ceil_div, whole_numbers
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import MOST_REGISTERS_PER_THREAD
from schedules.mask_tiles import GRAIN
from schedules.matmul_mma_cuda import SLOWER_PRODUCTS
from schedules.matmul_simt_costs import CACHE_BYTES_PER_CYCLE
from schedules.resident_blocks import resident_blocks
from schedules.task import Task

WIDEST = 256
FEWEST_QUERIES = 16
REGISTERS_BESIDE_DATA = 44
REGISTERS_OF_SEQUENCES = 12
"""Ends of the packed sequences of 16 rows, and what comparing with them takes."""
THREADS_PER_CORE = 1536
PRODUCT_CYCLES = 1.83
SCORE_CYCLES = 1.58
RESCALED_CYCLES = 0.29
READ_CYCLES = 0.37
STEP_CYCLES = 230.0
"""Cycles of a multiprocessor for one product of a warp (m16n8k16), one score and one rescaled sum
of every lane, one read of four matrices; and for the meetings of a step while no other block is
there. Fitted to 31 points of three problems on an H100, root mean square error 6 %."""
BLOCK_CYCLES = 2500.0


def attention_mma_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    if not task.target.has_async_copies or _problem(task) is None:
        return None
    return unless_empty(AttentionMmaSpace(task))


def _problem(task: Task) -> DecodeProblem | None:
    problem = extended_problem(task.workload)
    if problem is None or problem.plain.queries < FEWEST_QUERIES:
        return None
    widths = (problem.plain.width, problem.plain.value_width)
    return problem if all(w % 8 == 0 and w <= WIDEST for w in widths) else None


class AttentionMmaSpace(JudgedSpace):
    """Rows and warps of blocks, keys of a step, stages, where queries are.

    Args:
        task: What to compute.
        patience: See :class:`JudgedSpace`.
    """

    name = "attention_mma"
    knobs = (
        Knob(name="warps", values=(1, 2, 4, 8)),
        Knob(name="row_tiles", values=(1, 2)),
        Knob(name="key_tile", values=(16, 32, 48, 64, 80, 96, 128)),
        Knob(name="stages", values=(1, 2, 3)),
        Knob(name="kept", values=(0, 1)),
        Knob(name="longest_first", values=(0, 1)),
    )

    def __init__(self, task: Task, *, patience: float = MOST_SLOWER) -> None:
        self._problem = required(
            _problem(task),
            task,
            family=self.name,
            expected=f"at least {FEWEST_QUERIES} queries, tensors of rank 4 and of one 16-bit "
            f"dtype, at most {WIDEST} wide in steps of 8",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    def _rows(self, values: Mapping[str, Grid]) -> Grid:
        return 16 * values["row_tiles"] * values["warps"]

    def _registers(self, values: Mapping[str, Grid]) -> Grid:
        """Of a thread, estimated: scores, sums, queries, keys being read, addresses."""
        depth, columns = self._sixteens
        queries = np.where(values["kept"], 4 * depth, 4)
        own = values["key_tile"] // 2 + 8 * columns + queries + 4
        own = own + (REGISTERS_OF_SEQUENCES if self._problem.starts is not None else 0)
        return values["row_tiles"] * own + REGISTERS_BESIDE_DATA

    @cached_property
    def _sixteens(self) -> tuple[int, int]:
        """Steps of 16 along the width of keys and of values."""
        plain = self._problem.plain
        return int(ceil_div(plain.width, 16)), int(ceil_div(plain.value_width, 16))

    def _shared(self, values: Mapping[str, Grid]) -> Grid:
        return shared_bytes(
            self._problem,
            rows=self._rows(values),
            key_tile=values["key_tile"],
            stages=values["stages"],
            kept=values["kept"],
        )

    def _resident(self, values: Mapping[str, Grid]) -> Grid:
        """Blocks that fit a multiprocessor."""
        return resident_blocks(
            self._target,
            threads=WARP * values["warps"],
            registers=self._registers(values),
            shared_bytes=self._shared(values),
            most_threads=THREADS_PER_CORE,
        )

    def judge(self, values: Mapping[str, Grid]) -> dict[str, Grid]:
        """See :class:`JudgedSpace`."""
        problem, plain = self._problem, self._problem.plain
        rows, key_tile = self._rows(values), values["key_tile"]
        windowed = plain.left is not None or plain.right is not None or problem.starts is not None
        return {
            "too many registers for a thread": self._registers(values) > MOST_REGISTERS_PER_THREAD,
            "a block does not fit a multiprocessor": self._resident(values) < 1,
            "half of the queries of a block would not exist": (
                (rows > FEWEST_QUERIES) & (rows >= 2 * plain.queries)
            ),
            "half of the keys of a step would not exist": (
                (key_tile > 16) & (key_tile >= 2 * plain.keys)
            ),
            "more stages than steps": (
                values["stages"] > np.maximum(1, ceil_div(plain.keys, key_tile))
            ),
            "all tiles are equally long": (values["longest_first"] == 1) & (not windowed),
            "blocks of the mask hold 64 keys": (
                (problem.patterns is not None) & (GRAIN % key_tile != 0) & (key_tile % GRAIN != 0)
            ),
        }

    @cached_property
    def _keys_per_query(self) -> float:
        plain = self._problem.plain
        return plain.pairs / max(1, plain.queries)

    def _steps(self, values: Mapping[str, Grid]) -> Grid:
        """Of a block, on average: windows are met by whole tiles of rows and keys."""
        plain = self._problem.plain
        extra = self._rows(values) / 2 if plain.left is not None or plain.right is not None else 0
        keys = np.minimum(plain.keys, self._keys_per_query + extra)
        return np.maximum(1, np.ceil(keys / values["key_tile"]))

    def estimate(self, values: Mapping[str, Grid]) -> Grid:
        """See :class:`JudgedSpace`."""
        depth, columns = self._sixteens
        key_tile, row_tiles = values["key_tile"], values["row_tiles"]
        blocks = ceil_div(n_blocks(self._problem, self._rows(values)), self._target.n_cores)
        at_once = np.clip(self._resident(values), 1, blocks)
        slower = SLOWER_PRODUCTS.get(self._target.arch, 1.0)
        sixteens = key_tile / 16 * (depth + columns)
        reads = sixteens + np.where(values["kept"], 0, row_tiles * depth)
        warp = (
            row_tiles * 2 * sixteens * PRODUCT_CYCLES * slower
            + row_tiles * key_tile / 2 * SCORE_CYCLES
            + row_tiles * 8 * columns * RESCALED_CYCLES
            + reads * READ_CYCLES
        )
        fetched = key_tile * 32 * (depth + columns) / CACHE_BYTES_PER_CYCLE
        step = np.maximum(values["warps"] * warp + STEP_CYCLES / at_once, fetched)
        rounds = ceil_div(blocks, at_once)
        return blocks * self._steps(values) * step + rounds * BLOCK_CYCLES

    def schedule(self, values: Values) -> AttentionMmaSchedule:
        """The decisions that knob values stand for."""
        chosen = whole_numbers(values)
        return AttentionMmaSchedule(
            warps=chosen["warps"],
            row_tiles=chosen["row_tiles"],
            key_tile=chosen["key_tile"],
            stages=chosen["stages"],
            kept=bool(chosen["kept"]),
            longest_first=bool(chosen["longest_first"]),
            min_blocks=int(self._resident(chosen)),
        )

    def program(self, values: Values) -> Any:
        """The bound program."""
        return attention_mma_cuda(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of estimated cycles, blocks, waves, warps, shared bytes; registers, idling."""
        chosen = whole_numbers(values)
        blocks = int(n_blocks(self._problem, self._rows(chosen)))
        resident = int(self._resident(chosen))
        waves = blocks / (self._target.n_cores * resident)
        return [
            float(np.log2(self.estimate(chosen))),
            float(np.log2(blocks)),
            float(np.log2(waves)),
            float(np.log2(resident * chosen["warps"])),
            float(np.log2(self._shared(chosen))),
            float(self._registers(chosen)) / MOST_REGISTERS_PER_THREAD,
            waves / float(np.ceil(waves)),
        ]
