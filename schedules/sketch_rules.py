"""Which of TVM's schedule rules, mutators and post-processors make up its design space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from schedules import _tvm
from schedules.target import Target

STATIC_SHARED_BYTES = 48 * 1024
UNROLL_STEPS = (0, 16, 64, 256)

RuleSet = Literal["llvm", "cuda", "cuda-tensorcore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchRules:
    """The three lists that a space generator takes.

    Attributes:
        rules: Schedule rules, applied block by block in post order.
        postprocs: What runs after all decisions, including checks that may refuse.
        mutators: Mutators with their probability.
    """

    rules: list[Any]
    postprocs: list[Any]
    mutators: dict[Any, float]


def sketch_rules(kind: RuleSet) -> SketchRules:
    """TVM's default lists of one kind with what this project changes in them.

    - Layout rewriting is left out: it changes the shape of arguments, which only a
      compiler that also rewrites every caller can allow.
    - On CUDA, explicit unrolling stops at 256 steps; longer bodies cost the compiler
      seconds to minutes.
    """
    from tvm.s_tir import meta_schedule as ms

    rules = list(ms.schedule_rule.ScheduleRule.create(kind))
    postprocs = list(ms.postproc.Postproc.create(kind))
    mutators = {key: float(value) for key, value in ms.mutator.Mutator.create(kind).items()}
    if kind != "llvm":
        rules = [_short_unroll(rule) for rule in rules]
    return SketchRules(
        rules=rules,
        postprocs=[p for p in postprocs if not isinstance(p, ms.postproc.RewriteLayout)],
        mutators=mutators,
    )


def _short_unroll(rule: Any) -> Any:
    from tvm.s_tir.meta_schedule import schedule_rule

    if not isinstance(rule, schedule_rule.ParallelizeVectorizeUnroll):
        return rule
    return schedule_rule.ParallelizeVectorizeUnroll(
        max_jobs_per_core=-1,
        max_vectorize_extent=-1,
        unroll_max_steps=list(UNROLL_STEPS),
        unroll_explicit=True,
    )


@cache
def search_target(target: Target) -> Any:
    """The target that sketches are generated and checked for.

    Their shared memory is static, of which CUDA grants 48 KiB whatever the device has.
    """
    if target.kind == "llvm":
        return _tvm.tvm_target(target)
    limited = Target(
        kind="cuda",
        arch=target.arch,
        name=target.name,
        n_cores=target.n_cores,
        max_threads_per_block=target.max_threads_per_block,
        shared_memory_per_block_bytes=min(
            STATIC_SHARED_BYTES, target.shared_memory_per_block_bytes
        ),
        registers_per_block=target.registers_per_block,
        warp_size=target.warp_size,
        cache_bytes=target.cache_bytes,
    )
    return _tvm.tvm_target(limited)
