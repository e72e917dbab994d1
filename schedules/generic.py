"""TVM's own design space behind the protocol: traces of schedule instructions.

A sketch is a trace without decisions, made once per workload by TVM's schedule rules.
A candidate is a trace with every decision taken and with the instructions that the
post-processors added, so replaying it needs neither rules nor random numbers. Whatever
trace replays on the workload's program is a legal schedule of it.

Determinism: each attempt has its own seed, drawn from the caller's generator before any
thread starts, and results are taken in the order of the seeds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.analysis import SCHEDULED
from schedules.bounded import BoundedCache
from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate
from schedules.lowering import without_storage_pass
from schedules.programs import function_of
from schedules.shared_arena import has_arena
from schedules.sketches import Sketch, generate_sketches, launch_checks
from schedules.store_features import StoreFeatures
from schedules.task import Task
from schedules.threads import parallel_map
from schedules.traces import dump_trace, load_trace_onto, read_trace

KEPT_SCHEDULES = 32
KEPT_FEATURES = 4096
SMALLEST_ROUND = 8
DRAWN_PER_WANTED = 1.5
"""Some decisions do not fit together; a second round would wait for its slowest replay again."""
MOST_DRAWN_PER_WANTED = 8
FEWEST_DRAWN = 24
"""Where hardly any decisions fit together, drawing on costs seconds and finds one or two."""
LARGEST_SEED = 2**31 - 1


class TvmSpace:
    """All traces that TVM's schedule rules can produce for a workload."""

    name = "tvm"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._local = threading.local()
        self._schedules: BoundedCache[str, Any] = BoundedCache(KEPT_SCHEDULES)
        self._features: BoundedCache[str, np.ndarray] = BoundedCache(KEPT_FEATURES)

    @cached_property
    def sketches(self) -> list[Sketch]:
        """Traces whose decisions are open; empty if no rule fits the workload."""
        return generate_sketches(self._task)

    @property
    def is_searchable(self) -> bool:
        """Whether TVM's rules find any sketch."""
        return bool(self.sketches)

    @property
    def least_cycles(self) -> None:
        """Nothing is known beforehand."""

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most ``n`` distinct candidates with random decisions; fewer where few of them fit."""
        found: dict[str, Candidate] = {}
        n_left = max(FEWEST_DRAWN, MOST_DRAWN_PER_WANTED * n)
        per_wanted = DRAWN_PER_WANTED
        while len(found) < n and n_left > 0 and self.is_searchable:
            wanted = max(SMALLEST_ROUND, round(per_wanted * (n - len(found))))
            n_drawn = min(n_left, wanted)
            seeds = rng.integers(1, LARGEST_SEED, size=n_drawn)
            fitting = [one for one in self._draws([int(s) for s in seeds]) if one is not None]
            found.update((one.candidate_id, one) for one in fitting)
            n_left -= n_drawn
            per_wanted = max(DRAWN_PER_WANTED, n_drawn / max(1, len(fitting)))
        return list(found.values())[:n]

    def _draws(self, seeds: Sequence[int]) -> list[Candidate | None]:
        return parallel_map(self.draw, seeds)

    def draw(self, seed: int) -> Candidate | None:
        """The candidate of one seed, ``None`` if its decisions do not fit together."""
        rng = np.random.default_rng(seed)
        sketch = self.sketches[int(rng.integers(len(self.sketches)))]
        trace = sketch.draw(rng)
        return None if trace is None else self._finish(trace, sketch, seed)

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        """One decision of each parent changed, by TVM's mutators."""
        seeds = rng.integers(1, LARGEST_SEED, size=len(parents))
        return self._changes(list(zip(parents, (int(s) for s in seeds), strict=True)))

    def _changes(self, jobs: Sequence[tuple[Candidate, int]]) -> list[Candidate | None]:
        return parallel_map(lambda job: self.change(*job), jobs)

    def change(self, parent: Candidate, seed: int) -> Candidate | None:
        """The parent with one decision changed by one seed, ``None`` if none could be."""
        from tvm.s_tir.meta_schedule import _ffi_api

        rng = np.random.default_rng(seed)
        trace, sketch = self._origin(parent)
        mutators, weights = sketch.mutators
        # Likely mutators first, but every one gets its turn: a trace may have sites for one only.
        order = rng.choice(len(mutators), size=len(mutators), replace=False, p=weights)
        for index in [*order[:1], *order[:1], *order]:
            mutator = mutators[int(index)]
            step = int(rng.integers(1, LARGEST_SEED))
            changed = _ffi_api.MutatorApply(mutator, trace, step)
            child = None if changed is None else self._finish(changed, sketch, step)
            if child is not None and child != parent:
                return child
        return None

    def _origin(self, candidate: Candidate) -> tuple[Any, Sketch]:
        """The trace before post-processing, and the sketch it was made from.

        Raises:
            IllegalCandidate: No sketch of this space has these instructions.
        """
        stored = read_trace(candidate.decisions)
        for sketch in self.sketches:
            trace = sketch.restored(stored)
            if trace is not None:
                return trace, sketch
        raise IllegalCandidate(
            f"candidate {candidate.candidate_id} comes from none of the {len(self.sketches)} "
            f"sketches of {self._task.workload.name}. It was made for another workload, target "
            "or version; sample this space anew."
        )

    def _finish(self, trace: Any, sketch: Sketch, seed: int) -> Candidate | None:
        """Take the open decisions, post-process, and name the outcome; ``None`` if refused."""
        schedule = self._new_schedule(seed, enable_check=False)
        try:
            trace.apply_to_schedule(schedule, remove_postproc=True)
            schedule.enter_postproc()
            if not all(postproc.apply(schedule) for postproc in sketch.postprocs):
                return None
        except (RuntimeError, ValueError):  # decisions that do not fit together
            return None
        candidate = Candidate(space=self.name, decisions=dump_trace(schedule.trace))
        self._schedules.put(candidate.candidate_id, schedule)
        return candidate

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Pooled per-store features, launch geometry and counts."""
        rows = parallel_map(self.feature_row, list(candidates))
        return np.stack(rows) if rows else np.zeros((0, self._extractor.n_columns), np.float32)

    @cached_property
    def _extractor(self) -> StoreFeatures:
        return StoreFeatures(self._task)

    def feature_row(self, candidate: Candidate) -> np.ndarray:
        """Features of one candidate, float32, shape (n_features,)."""
        return self._features.get(
            candidate.candidate_id, lambda: self._extractor.row(self._schedule(candidate))
        )

    def realise(self, candidate: Candidate) -> Any:
        """The module that a trace gives.

        Raises:
            IllegalCandidate: The trace belongs to another space or workload, or breaks a
                limit of the target.
        """
        return _marked(self._schedule(candidate).mod)

    def _schedule(self, candidate: Candidate) -> Any:
        return self._schedules.get(candidate.candidate_id, lambda: self._replay(candidate))

    def _replay(self, candidate: Candidate) -> Any:
        if candidate.space != self.name:
            raise IllegalCandidate(
                f"candidate {candidate.candidate_id} belongs to space {candidate.space!r}, "
                f"expected {self.name!r}. Open the space it names."
            )
        if self._task.target.kind == "cuda":
            _tvm.load_intrinsics("cuda")  # a trace may name them
        schedule = self._new_schedule(seed=1, enable_check=True)
        load_trace_onto(candidate, schedule)
        if not self._is_launchable(schedule):
            raise IllegalCandidate(
                f"candidate {candidate.candidate_id} exceeds a limit of "
                f"{self._task.target.name}: threads, vector width or shared memory of a block."
            )
        return schedule

    def _is_launchable(self, schedule: Any) -> bool:
        # The check lowers the program, as a build will.
        several = has_arena(schedule.mod["main"])
        with without_storage_pass() if several else nullcontext():
            return all(check.apply(schedule) for check in self._checks)

    @cached_property
    def _checks(self) -> list[Any]:
        return launch_checks(self._task)

    def _new_schedule(self, seed: int, *, enable_check: bool) -> Any:
        from tvm.s_tir import Schedule

        return Schedule(
            self._module_of_thread(),
            seed=seed,
            enable_check=enable_check,
            debug_mask="none",
            error_render_level="none",
        )

    def _module_of_thread(self) -> Any:
        """One copy of the module per thread: scheduling is not safe on shared statements."""
        if not hasattr(self._local, "module"):
            self._local.module = sketch_module(self._task)
        return self._local.module


def sketch_module(task: Task) -> Any:
    """The workload as the module that sketches are made of."""
    tvm = _tvm.load()
    function = function_of(task.workload).with_attr("tirx.noalias", True)
    return tvm.IRModule({"main": function})


def _marked(module: Any) -> Any:
    tvm = _tvm.load()
    return tvm.IRModule({"main": module["main"].with_attr(SCHEDULED, True)})
