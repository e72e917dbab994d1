"""Masked attention of many queries: the attention family's programs over the blocks of a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.attention import HopperAttentionSpace, loadable
from schedules.attention_decode_problem import decode_problem
from schedules.attention_hopper import HopperSchedule, accumulators, n_tiles, shared_bytes
from schedules.covering import required
from schedules.knobs import Knob, KnobSpace, Values
from schedules.mask_tiles import GRAIN, blocks_of
from schedules.masked_attention_cuda import masked_attention, plan_bytes, tile_lengths
from schedules.masked_problem import TILES, MaskedProblem, masked_problem
from schedules.task import Task

# Bits of two rows, and what finding blocks takes.
REGISTERS_PER_PART = 5
MOST_BLOCKS_PER_CORE = 2


def masked_attention_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if the family does not cover it."""
    problem = masked_problem(task.workload)
    if problem is None or not task.target.is_hopper or not loadable(problem.plain):
        return None
    if decode_problem(task.workload) is not None:
        return None
    space = MaskedAttentionSpace(task)
    return None if space.is_empty or space.gains_nothing else space


class MaskedAttentionSpace(HopperAttentionSpace):
    """The knobs of attention; keys come in blocks of the mask."""

    name = "attention_masked"
    knobs: tuple[Knob, ...] = (
        *(
            Knob(name="key_tile", values=(64, 128, 192, 256)) if knob.name == "key_tile" else knob
            for knob in HopperAttentionSpace.knobs
        ),
        Knob(name="splits", values=(1, 2, 3, 4, 6, 8, 12, 16)),
        Knob(name="launches", values=("in_turn", "early")),
    )

    def __init__(self, task: Task) -> None:
        self._masked: MaskedProblem = required(
            masked_problem(task.workload),
            task,
            family=self.name,
            expected="queries, keys and values of one 16-bit dtype, with a mask, lengths or a "
            "soft cap",
        )
        self._problem = self._masked.plain
        self._workload, self._target = task.workload, task.target
        self._lengths = {groups: lengths(self._masked, groups) for groups in (1, 2, 3)}

    @property
    def gains_nothing(self) -> bool:
        """Whether nothing is masked but positions, and query tiles keep all processors busy."""
        masked, plain = self._masked, self._problem
        if masked.kind != "none" or masked.lengths is not None or masked.softcap:
            return False
        rows = plain.batch * plain.heads * plain.queries
        return rows >= GRAIN * self._target.n_cores

    def refusal(self, values: Values) -> str | None:
        """As of attention; keys are split where query tiles leave processors idle."""
        schedule, cores = self.schedule(values), self._target.n_cores
        if schedule.early and schedule.splits == 1 and self._masked.kind == TILES:
            return "there is one launch"
        if schedule.splits == 1:
            return super().refusal(values)
        tiles = n_tiles(self._problem, schedule) // schedule.splits
        if tiles >= cores or tiles * schedule.splits > MOST_BLOCKS_PER_CORE * cores:
            return f"{tiles} query tiles need no {schedule.splits} splits"
        if 2 * schedule.splits * schedule.key_tile > self._problem.keys:
            return "a split would have one step"
        return super().refusal(values)

    @property
    def is_uneven(self) -> bool:
        """Whether some query tiles have more keys than others."""
        return bool(np.ptp(self._lengths[1])) if self._masked.known else super().is_uneven

    def other_registers(self, schedule: HopperSchedule) -> int:
        """Beside scores, probabilities and outputs: the bits of two rows, and what is added."""
        masked, parts = self._masked, schedule.key_tile // GRAIN
        added = 0
        if masked.kind == "float" and masked.mask is not None:
            added = schedule.key_tile // (2 if masked.mask.dtype == "float32" else 4)
        return super().other_registers(schedule) + REGISTERS_PER_PART * parts + added

    def plan_bytes(self, schedule: HopperSchedule) -> int:
        """What producers tell consumers of the steps in flight."""
        return plan_bytes(schedule)

    def program(self, values: Values) -> Any:
        """The bound program."""
        return masked_attention(self._workload, self._masked, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """Work per processor in key steps, its longest tile, done for all, memory, registers."""
        schedule, problem = self.schedule(values), self._problem
        steps = -(-self._lengths[schedule.warpgroups] * GRAIN // schedule.key_tile)
        share = problem.batch * problem.heads / (steps.shape[0] * steps.shape[1])
        total = max(1.0, float(steps.sum()) * share)
        done = total * schedule.query_tile * schedule.key_tile
        pairs = problem.batch * problem.heads * problem.queries * problem.keys
        return [
            float(np.log2(total / self._target.n_cores)),
            float(steps.max()) / schedule.splits * self._target.n_cores / total,
            done / pairs,
            n_tiles(problem, schedule) / self._target.n_cores,
            shared_bytes(problem, schedule) / self._target.shared_memory_per_block_bytes,
            float(accumulators(problem, schedule)),
        ]


def lengths(problem: MaskedProblem, warpgroups: int) -> np.ndarray:
    """Blocks that query tiles load, all of them where the mask is not known.

    Shape (batch or 1, heads or 1, query tiles).
    """
    tiles = -(-problem.plain.queries // (GRAIN * warpgroups))
    if problem.known is None:
        return np.full((1, 1, tiles), blocks_of(problem.plain.keys))
    found = tile_lengths(problem.known, warpgroups)
    return np.broadcast_to(found, (*found.shape[:2], tiles))
