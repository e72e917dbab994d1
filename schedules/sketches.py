"""Sketches: traces whose decisions are still open, and drawing from them."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.counts import dtype_bits
from schedules.programs import function_of
from schedules.sketch_rules import (
    STATIC_SHARED_BYTES,
    TENSOR_DTYPES,
    TENSOR_TILE,
    RuleSet,
    search_target,
    sketch_rules,
)
from schedules.task import Task
from schedules.tiles import TileLimits, draw_tiles
from schedules.traces import END_OF_SKETCH, StoredTrace, dump_trace, read_trace

logger = logging.getLogger(__name__)

GPU_TILING = '"SSSRRSRS"'
# Rules that fail inside TVM on some programs of several reductions, with the others intact.
FRAGILE_RULES = ("CrossThreadReduction", "AddRFactor", "RandomComputeLocation", "MultiLevelTiling")
MOST_VIRTUAL_THREADS = 8
MOST_RESULTS_PER_THREAD = 128
MOST_TENSOR_WARPS = 16
# The rest is padding that keeps rows of a staged tile on different memory banks.
STAGED_SHARE = 0.8
MOST_TENSOR_TILES = 32


class Sketch:
    """One trace of TVM's rules with its post-processors and mutators."""

    def __init__(self, trace: Any, context: Any, task: Task) -> None:
        self._trace = trace
        self._context = context
        self._task = task
        self.postprocs = list(context.space_generator.postprocs)

    @cached_property
    def mutators(self) -> tuple[list[Any], np.ndarray]:
        """Mutators and their probabilities."""
        items = [(key, float(p)) for key, p in self._context.space_generator.mutator_probs.items()]
        weights = np.array([weight for _, weight in items])
        return [mutator for mutator, _ in items], weights / weights.sum()

    def restored(self, stored: StoredTrace) -> Any | None:
        """A stored trace as it was before post-processing; ``None`` if of another sketch.

        Takes no replay: the instructions are the sketch's own, the decisions are stored.
        """
        from tvm.s_tir.schedule import Trace

        own = self._steps
        if stored.steps[: len(own) + 1] != [*own, END_OF_SKETCH]:
            return None
        decisions = {
            self._trace.insts[index]: decision
            for index, decision in stored.decisions
            if index < len(own)
        }
        return Trace(self._trace.insts, decisions)

    @cached_property
    def _steps(self) -> list[Any]:
        """The instructions as they are stored."""
        return read_trace(dump_trace(self._trace)).steps

    def draw(self, rng: np.random.Generator) -> Any | None:
        """The trace with fitting tile sizes where they matter and everything else open."""
        from tvm.s_tir.schedule import Trace

        decisions: dict[Any, list[int]] = {}
        for nest in self._nests:
            tiles = draw_tiles(
                [_extent(self._trace, step) for step in nest],
                [int(step.attrs[0]) for step in nest],
                [int(step.attrs[1]) for step in nest],
                limits=self._limits,
                rng=rng,
            )
            if tiles is None:
                return None
            decisions.update(zip(nest, tiles, strict=True))
        return Trace(self._trace.insts, decisions)

    @cached_property
    def is_tensorised(self) -> bool:
        """Whether the sketch computes on tensor cores."""
        return any(
            str(step.kind.name) == "Annotate" and str(step.attrs[0]).endswith(".auto_tensorize")
            for step in self._trace.insts
        )

    @property
    def _limits(self) -> TileLimits:
        target = self._task.target
        if self.is_tensorised:
            return TileLimits(
                fewest_threads=1,
                most_threads=MOST_TENSOR_WARPS,
                most_virtual=None,
                most_results=MOST_TENSOR_TILES,
                most_staged=int(STAGED_SHARE * STATIC_SHARED_BYTES) // self._tensor_tile_bytes,
            )
        return TileLimits(
            fewest_threads=target.warp_size,
            most_threads=target.max_threads_per_block,
            most_virtual=MOST_VIRTUAL_THREADS,
            most_results=MOST_RESULTS_PER_THREAD,
            most_staged=STATIC_SHARED_BYTES * 8 // self._widest_bits,
        )

    @property
    def _tensor_tile_bytes(self) -> int:
        return TENSOR_TILE * TENSOR_TILE * self._widest_bits // 8

    @property
    def _widest_bits(self) -> int:
        return max((dtype_bits(spec.dtype) for spec in self._task.workload.inputs), default=32)

    @cached_property
    def _nests(self) -> list[list[Any]]:
        """Tile-size instructions of each nest tiled for GPU threads."""
        nests: list[list[Any]] = []
        inside = False
        for step in self._trace.insts:
            kind = str(step.kind.name)
            if kind == "Annotate" and str(step.attrs[0]) == "meta_schedule.tiling_structure":
                inside = str(step.inputs[1]).strip('"') == GPU_TILING.strip('"')
                if inside:
                    nests.append([])
            elif inside and kind == "SamplePerfectTile":
                nests[-1].append(step)
        return [nest for nest in nests if nest]


def _extent(trace: Any, step: Any) -> int:
    return int(np.prod([int(factor) for factor in trace.get_decision(step)]))


def generate_sketches(task: Task) -> list[Sketch]:
    """All sketches of a workload; empty if TVM's rules cannot handle it, with the reason logged."""
    function = function_of(task.workload)
    if str(function.body.block.name_hint) != "root":
        return _none(task, "its program is a single opaque block")
    try:
        for kind in _rule_sets(task):
            sketches = _generate(task, kind)
            if kind != "cuda-tensorcore" or any(sketch.is_tensorised for sketch in sketches):
                return sketches
    except (RuntimeError, ValueError) as error:
        return _none(task, f"a schedule rule failed with {type(error).__name__}")
    return _none(task, "no rule set applies")


def _rule_sets(task: Task) -> tuple[RuleSet, ...]:
    """What to try in turn: tensor cores first where an input has a type they take."""
    if task.target.kind == "llvm":
        return ("llvm",)
    taken = {dtype for dtype, _ in TENSOR_DTYPES}
    if any(spec.dtype in taken for spec in task.workload.inputs):
        return ("cuda-tensorcore", "cuda")
    return ("cuda",)


def _generate(task: Task, kind: RuleSet) -> list[Sketch]:
    """Sketches of one rule set, if need be without the rule that fails on this program."""
    for left_out in ("", *FRAGILE_RULES):
        context = _context(task, kind, left_out)
        try:
            schedules = context.generate_design_space()
            break
        except (RuntimeError, ValueError, IndexError) as error:
            failure = error
    else:
        raise RuntimeError(str(failure))
    sketches = [Sketch(schedule.trace.simplified(True), context, task) for schedule in schedules]
    tensorised = [sketch for sketch in sketches if sketch.is_tensorised]
    return tensorised or sketches


def launch_checks(task: Task) -> list[Any]:
    """What refuses a schedule that exceeds the target's limits; needs no sketches."""
    if task.target.kind == "llvm":
        return []
    tvm = _tvm.load_intrinsics("cuda")
    from tvm.s_tir import meta_schedule as ms

    context = ms.TuneContext(
        tvm.IRModule({"main": function_of(task.workload)}),
        target=search_target(task.target, _rule_sets(task)[0]),
        space_generator=ms.space_generator.PostOrderApply(
            sch_rules=[], postprocs=[ms.postproc.VerifyGPUCode()], mutator_probs={}
        ),
        rand_state=1,
        num_threads=1,
    )
    return list(context.space_generator.postprocs)


def _none(task: Task, reason: str) -> list[Sketch]:
    logger.info("no tvm space for %s: %s", task.workload.name, reason)
    return []


def _context(task: Task, kind: RuleSet, left_out: str) -> Any:
    tvm = _tvm.load_intrinsics(task.target.kind)
    from tvm.s_tir import meta_schedule as ms

    lists = sketch_rules(kind)
    function = function_of(task.workload).with_attr("tirx.noalias", True)
    return ms.TuneContext(
        tvm.IRModule({"main": function}),
        target=search_target(task.target, kind),
        space_generator=ms.space_generator.PostOrderApply(
            sch_rules=[rule for rule in lists.rules if type(rule).__name__ != left_out],
            postprocs=lists.postprocs,
            mutator_probs=lists.mutators,
        ),
        rand_state=1,
        num_threads=1,
    )
