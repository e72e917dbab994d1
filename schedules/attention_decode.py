"""The family of attention with few queries: knobs behind the design-space protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from schedules.attention_decode_cuda import (
    Combine,
    DecodeSchedule,
    attention_decode,
    n_passes,
    shared_bytes,
    step_pieces,
)
from schedules.attention_decode_problem import DecodeProblem, decode_problem
from schedules.errors import UnknownSpace
from schedules.knobs import Knob, KnobSpace, Values
from schedules.limits import launch_refusal
from schedules.task import Task

FIRST_ARCH = 80
FIRST_ARCH_WITH_CLUSTERS = 90
MOST_IN_CLUSTER = 8
MOST_REGISTERS = 240
# Bytes per multiprocessor; with fewer, memory waits for loads to be issued.
FEWEST_IN_FLIGHT = 24 * 1024
REGISTERS_BESIDE_DATA = 32
# Addresses of copies to shared memory.
REGISTERS_OF_COPIES = 28
THREADS_PER_CORE = 2048
# What split counts aim at.
BLOCKS_PER_CORE = (0.5, 1, 2, 3, 4)
TILES_PER_SPLIT = (2, 4, 8, 16)
MOST_SPLITS = 256
# Up to so many, one warp per block may be enough; with more it was the slowest everywhere.
FEW_KEYS = 512


def attention_decode_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    target = task.target
    if target.kind != "cuda" or arch_number(target.arch) < FIRST_ARCH:
        return None
    if decode_problem(task.workload) is None:
        return None
    space = AttentionDecodeSpace(task)
    return None if space.is_empty else space


def arch_number(arch: str) -> int:
    """For example 90 of ``sm_90``."""
    digits = "".join(letter for letter in arch if letter.isdigit())
    return int(digits or 0)


class AttentionDecodeSpace(KnobSpace):
    """How blocks and warps share the keys, and how much each has in flight."""

    name = "attention_decode"

    def __init__(self, task: Task) -> None:
        problem = decode_problem(task.workload)
        if problem is None:
            raise UnknownSpace(
                f"the attention_decode family does not cover {task.workload.name}: expected few "
                "query rows per key head, and queries, keys and values of one 16-bit dtype whose "
                "widths are multiples of 8."
            )
        self._problem: DecodeProblem = problem
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Splits and rows follow the problem."""
        rows = tuple(n for n in (8, 16, 32) if n == 8 or n < 2 * self._problem.group_rows)
        plenty = self._problem.plain.keys > FEW_KEYS
        combines = ("last_block", "launch", *(["cluster"] if self._has_clusters else []))
        return (
            Knob(name="splits", values=self._split_counts()),
            Knob(name="order", values=("ranges", "turns")),
            Knob(name="warps", values=(2, 4, 8, 16) if plenty else (1, 2, 4, 8)),
            Knob(name="tiles", values=(1, 2)),
            Knob(name="in_flight", values=(1, 2, 3, 4)),
            Knob(name="loads", values=("registers", "shared")),
            Knob(name="key_bytes", values=(64, 128)),
            Knob(name="rows", values=rows),
            Knob(name="combine", values=combines),
        )

    @property
    def _has_clusters(self) -> bool:
        return arch_number(self._target.arch) >= FIRST_ARCH_WITH_CLUSTERS

    def _split_counts(self) -> tuple[int, ...]:
        """One, what gives every multiprocessor whole blocks, and what few keys allow."""
        per_group = self._target.n_cores / self._problem.groups
        n_tiles = -(-self._problem.plain.keys // 16)
        wanted = {int(load * per_group) for load in BLOCKS_PER_CORE}
        wanted |= {n_tiles // share for share in TILES_PER_SPLIT}
        wanted |= {MOST_IN_CLUSTER} if self._has_clusters else set()
        most = min(MOST_SPLITS, n_tiles, int(BLOCKS_PER_CORE[-1] * per_group))
        return tuple(sorted({1} | {n for n in wanted if 1 < n <= most}))

    def schedule(self, values: Values) -> DecodeSchedule:
        """The decisions that knob values stand for."""
        return DecodeSchedule(
            warps=int(values["warps"]),
            tiles=int(values["tiles"]),
            in_flight=int(values["in_flight"]),
            in_shared=values["loads"] == "shared",
            key_bytes=int(values["key_bytes"]),
            rows=int(values["rows"]),
            splits=int(values["splits"]),
            in_turns=values["order"] == "turns",
            combine=cast("Combine", values["combine"]),
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule, problem = self.schedule(values), self._problem
        steps = -(-problem.plain.keys // schedule.step_keys)
        shares = schedule.warps * schedule.splits
        registers = self._registers(schedule)
        faults = {
            "some warps would have no keys": shares > max(steps, 1),
            "more steps would be in flight than a warp has": (
                schedule.in_flight > max(1, -(-steps // shares))
            ),
            "one block has no turns": schedule.splits == 1 and schedule.in_turns,
            "nothing is to be combined": schedule.splits == 1 and schedule.combine != "last_block",
            f"a cluster holds {MOST_IN_CLUSTER} blocks at most": (
                schedule.combine == "cluster" and schedule.splits > MOST_IN_CLUSTER
            ),
            f"more than {MOST_REGISTERS} registers per thread": registers > MOST_REGISTERS,
            "registers hold these loads, and are faster": (
                schedule.in_shared
                and self._registers(replace(schedule, in_shared=False)) <= MOST_REGISTERS
            ),
            "memory would be idle": self._in_flight(schedule) < self._wanted_in_flight(),
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

    def _registers(self, schedule: DecodeSchedule) -> int:
        plain, row_tiles = self._problem.plain, schedule.rows // 8
        totals = row_tiles * (16 * -(-plain.value_width // 64) + 2)
        queries = row_tiles * 4 * schedule.key_rows * -(-plain.width // (32 * schedule.key_rows))
        scores = 2 * schedule.tiles * (4 * ((row_tiles + 1) // 2) + 3 * row_tiles)
        scores += 4 * schedule.tiles * row_tiles * (self._problem.mask is not None)
        scores += 16 * ((row_tiles + 1) // 2) * (schedule.key_rows - 1)
        loads = REGISTERS_OF_COPIES if schedule.in_shared else 4 * self._loads(schedule)
        return REGISTERS_BESIDE_DATA + totals + queries + scores + loads

    def _loads(self, schedule: DecodeSchedule) -> int:
        """16-byte loads that a thread has in flight."""
        return schedule.in_flight * step_pieces(self._problem, schedule)

    def program(self, values: Values) -> Any:
        """The bound program."""
        return attention_decode(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves, bytes in flight per core, steps; registers; balance."""
        schedule, problem = self.schedule(values), self._problem
        shares = schedule.warps * schedule.splits
        steps = -(-problem.plain.keys // schedule.step_keys)
        waves = self._blocks(schedule) / (self._resident(schedule) * self._target.n_cores)
        return [
            float(np.log2(schedule.n_threads)),
            float(np.log2(self._blocks(schedule))),
            float(np.log2(waves)),
            float(np.log2(self._in_flight(schedule))),
            float(np.log2(steps / shares)),
            float(self._registers(schedule)),
            steps / shares / -(-steps // shares),
            waves / float(np.ceil(waves)),
        ]

    def _blocks(self, schedule: DecodeSchedule) -> int:
        return schedule.splits * self._problem.groups * n_passes(self._problem, schedule)

    def _resident(self, schedule: DecodeSchedule) -> int:
        """Blocks that a multiprocessor holds at once, by the estimate of registers."""
        registers = self._registers(schedule) * schedule.n_threads
        shared = shared_bytes(self._problem, schedule)
        return min(
            THREADS_PER_CORE // schedule.n_threads,
            max(1, self._target.registers_per_block // registers),
            max(1, self._target.shared_memory_per_block_bytes // shared),
        )

    def _in_flight(self, schedule: DecodeSchedule) -> float:
        """Bytes that are being loaded, per multiprocessor of the device."""
        at_once = min(self._blocks(schedule), self._resident(schedule) * self._target.n_cores)
        per_block = 16 * schedule.n_threads * self._loads(schedule)
        return at_once * per_block / self._target.n_cores

    def _wanted_in_flight(self) -> float:
        """What memory needs to be busy, or a quarter of all there is to load."""
        plain = self._problem.plain
        n_bytes = 2 * self._problem.groups * plain.keys * (plain.width + plain.value_width)
        return min(FEWEST_IN_FLIGHT, n_bytes / 4 / self._target.n_cores)
