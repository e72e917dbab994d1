"""The family of attention with few queries: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np

from schedules.attention_decode_cuda import attention_decode
from schedules.attention_decode_problem import decode_problem
from schedules.attention_decode_schedule import (
    Combine,
    DecodeSchedule,
    Release,
    n_passes,
    ring_bytes,
    shared_bytes,
)
from schedules.covering import required, unless_empty
from schedules.knobs import Knob, KnobSpace, Values, first_fault
from schedules.limits import launch_refusal
from schedules.resident_blocks import RESERVED_SHARED_BYTES
from schedules.task import Task

CLUSTERS = (8, 16)
MOST_IN_CLUSTER = 16
MOST_REGISTERS = 240
# Bytes per multiprocessor; with fewer, memory waits for loads to be issued.
FEWEST_IN_FLIGHT = 24 * 1024
REGISTERS_BESIDE_DATA = 40
# Addresses of copies in pieces, per tile.
REGISTERS_OF_COPIES = 16
THREADS_PER_CORE = 2048
# What split counts aim at.
BLOCKS_PER_CORE = (0.5, 1, 2, 3, 4)
TILES_PER_SPLIT = (2, 4, 8, 16)
MOST_SPLITS = 256
# Up to so many, one warp per block may be enough; with more it was the slowest everywhere.
FEW_KEYS = 512


def attention_decode_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    if not task.target.has_async_copies or decode_problem(task.workload) is None:
        return None
    return unless_empty(AttentionDecodeSpace(task))


class AttentionDecodeSpace(KnobSpace):
    """How blocks and warps share the keys, and how much each has in flight."""

    name = "attention_decode"

    def __init__(self, task: Task) -> None:
        self._problem = required(
            decode_problem(task.workload),
            task,
            family=self.name,
            expected="few query rows per key head, and queries, keys and values of one 16-bit "
            "dtype whose widths are multiples of 8",
        )
        self._workload, self._target = task.workload, task.target

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Splits and rows follow the problem."""
        rows = tuple(n for n in (8, 16, 32) if n == 8 or n < 2 * self._problem.group_rows)
        plenty = self._problem.plain.keys > FEW_KEYS
        combines = ("last_block", *(["cluster"] if self._target.has_clusters else []))
        releases = ("late", *(["at_once"] if self._target.has_clusters else []))
        return (
            Knob(name="splits", values=self._split_counts()),
            Knob(name="order", values=("ranges", "turns")),
            Knob(name="warps", values=(2, 4, 8, 16) if plenty else (1, 2, 4, 8)),
            Knob(name="tiles", values=(1, 2, 4)),
            Knob(name="in_flight", values=(1, 2, 3, 4, 6, 8)),
            Knob(name="rows", values=rows),
            Knob(name="combine", values=combines),
            Knob(name="release", values=releases),
            Knob(name="ahead", values=(1, 2, 4)),
            Knob(name="walks", values=("no", "yes")),
            Knob(name="keeps", values=("no", "yes")),
        )

    def _split_counts(self) -> tuple[int, ...]:
        """One, what gives every multiprocessor whole blocks, and what few keys allow."""
        per_group = self._target.n_cores / self._problem.groups
        n_tiles = -(-self._problem.plain.keys // 16)
        wanted = {int(load * per_group) for load in BLOCKS_PER_CORE}
        wanted |= {n_tiles // share for share in TILES_PER_SPLIT}
        wanted |= set(CLUSTERS) if self._target.has_clusters else set()
        most = min(MOST_SPLITS, n_tiles, int(BLOCKS_PER_CORE[-1] * per_group))
        return tuple(sorted({1} | {n for n in wanted if 1 < n <= most}))

    def schedule(self, values: Values) -> DecodeSchedule:
        """The decisions that knob values stand for."""
        return DecodeSchedule(
            warps=int(values["warps"]),
            tiles=int(values["tiles"]),
            in_flight=int(values["in_flight"]),
            loads="tiles" if self._target.has_clusters else "pieces",
            rows=int(values["rows"]),
            splits=int(values["splits"]),
            in_turns=values["order"] == "turns",
            combine=cast("Combine", values["combine"]),
            early=self._target.has_clusters,
            release=cast("Release", values["release"]),
            ahead=int(values.get("ahead", 1)),
            walks=values.get("walks") == "yes",
            keeps=values.get("keeps") == "yes",
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule, problem = self.schedule(values), self._problem
        steps = -(-problem.plain.keys // schedule.step_keys)
        shares = schedule.warps * schedule.splits
        registers = self._registers(schedule)
        faults = {
            "more than a fifth of the warps would have no keys": 4 * shares > 5 * max(steps, 1),
            "more steps would be in flight than a warp has": (
                schedule.in_flight > max(1, -(-steps // shares))
            ),
            "one block has no turns": schedule.splits == 1 and schedule.in_turns,
            "nothing is to be combined": schedule.splits == 1 and schedule.combine != "last_block",
            "blocks of a group would wait for others to end": (
                schedule.splits > 1 and self._waves(schedule) > 1
            ),
            f"a cluster holds {MOST_IN_CLUSTER} blocks at most": (
                schedule.combine == "cluster" and schedule.splits > MOST_IN_CLUSTER
            ),
            f"more than {MOST_REGISTERS} registers per thread": registers > MOST_REGISTERS,
            "steps are no whole pages, and pages no whole steps": self._crosses_pages(schedule),
            "memory would be idle": self._in_flight(schedule) < self._wanted_in_flight(),
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.n_threads,
            registers_per_thread=registers,
            shared_bytes=shared_bytes(problem, schedule),
        )

    def _crosses_pages(self, schedule: DecodeSchedule) -> bool:
        pages = self._problem.pages
        if pages is None:
            return False
        longer, shorter = sorted((pages.tokens, schedule.step_keys), reverse=True)
        return longer % shorter > 0

    def _registers(self, schedule: DecodeSchedule) -> int:
        plain, row_tiles = self._problem.plain, schedule.rows // 8
        totals = row_tiles * (4 * -(-plain.value_width // 16) + 4)
        queries = row_tiles * 2 * -(-plain.width // 16)
        scores = schedule.tiles * row_tiles * (6 + 4 * (self._problem.mask is not None))
        addresses = REGISTERS_OF_COPIES * schedule.tiles * (schedule.loads == "pieces")
        return REGISTERS_BESIDE_DATA + totals + queries + scores + addresses

    def program(self, values: Values) -> Any:
        """The bound program."""
        return attention_decode(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of threads, blocks, waves, bytes in flight per core, steps; registers; balance."""
        schedule, problem = self.schedule(values), self._problem
        shares = schedule.warps * schedule.splits
        steps = -(-problem.plain.keys // schedule.step_keys)
        waves = self._waves(schedule)
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

    def _waves(self, schedule: DecodeSchedule) -> float:
        return self._blocks(schedule) / (self._resident(schedule) * self._target.n_cores)

    def _resident(self, schedule: DecodeSchedule) -> int:
        """Blocks that a multiprocessor holds at once, by the estimate of registers."""
        registers = self._registers(schedule) * schedule.n_threads
        shared = shared_bytes(self._problem, schedule) + RESERVED_SHARED_BYTES
        per_core = self._target.shared_memory_per_block_bytes + RESERVED_SHARED_BYTES
        return min(
            THREADS_PER_CORE // schedule.n_threads,
            max(1, self._target.registers_per_block // registers),
            max(1, per_core // shared),
        )

    def _in_flight(self, schedule: DecodeSchedule) -> float:
        """Bytes that are being loaded, per multiprocessor of the device."""
        at_once = min(self._blocks(schedule), self._resident(schedule) * self._target.n_cores)
        return at_once * ring_bytes(self._problem, schedule) / self._target.n_cores

    def _wanted_in_flight(self) -> float:
        """What memory needs to be busy, or a quarter of all there is to load."""
        plain = self._problem.plain
        n_bytes = 2 * self._problem.groups * plain.keys * (plain.width + plain.value_width)
        return min(FEWEST_IN_FLIGHT, n_bytes / 4 / self._target.n_cores)
