"""Which of TVM's schedule rules, mutators and post-processors make up its design space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from schedules import _tvm
from schedules.target import Target

STATIC_SHARED_BYTES = 48 * 1024
UNROLL_STEPS = (0, 16, 64, 256)
TENSOR_DTYPES = (("float16", "float16"), ("float16", "float32"), ("int8", "int32"))
TENSOR_TILE = 16

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
    - Tensor cores use one group of intrinsics, see :func:`_tensor_rule`.
    - On CUDA, explicit unrolling stops at 256 steps; longer bodies cost the compiler
      seconds to minutes.
    """
    from tvm.s_tir import meta_schedule as ms

    rules = list(ms.schedule_rule.ScheduleRule.create(kind))
    postprocs = list(ms.postproc.Postproc.create(kind))
    mutators = {key: float(value) for key, value in ms.mutator.Mutator.create(kind).items()}
    if kind != "llvm":
        rules = [_short_unroll(rule) for rule in rules if not _is_tensor_rule(rule)]
    if kind == "cuda-tensorcore":
        first_tiling = next(
            i for i, rule in enumerate(rules) if isinstance(rule, ms.schedule_rule.MultiLevelTiling)
        )
        rules.insert(first_tiling, _tensor_rule())
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


def _is_tensor_rule(rule: Any) -> bool:
    from tvm.s_tir.meta_schedule import schedule_rule

    return isinstance(rule, schedule_rule.MultiLevelTilingTensorCore)


def _tensor_rule() -> Any:
    """Tiling for 16x16x16 tensor instructions.

    Operands and results are staged in dynamic shared memory: it is the only kind of which a block
    may have more than 48 KiB. ``schedules.lowering`` lets them share it.
    """
    from tvm.s_tir.meta_schedule import schedule_rule
    from tvm.s_tir.tensor_intrin.cuda import get_wmma_intrin_group

    groups = [
        get_wmma_intrin_group(
            load_scope="shared.dyn",
            store_scope="shared.dyn",
            in_dtype=in_dtype,
            out_dtype=out_dtype,
            trans_b=trans_b,
        )
        for in_dtype, out_dtype in TENSOR_DTYPES
        for trans_b in (False, True)
    ]
    return schedule_rule.MultiLevelTilingTensorCore(
        intrin_groups=groups,
        structure="SSSRRSRS",
        tile_binds=["blockIdx.y", "blockIdx.x", "threadIdx.y"],
        max_innermost_factor=4,
        vector_load_lens=[1, 2, 4, 8],
        reuse_read=schedule_rule.ReuseType(req="must", levels=[4], scope="shared.dyn"),
        reuse_write=schedule_rule.ReuseType(req="must", levels=[2], scope="shared.dyn"),
        use_software_pipeline=False,
    )


@cache
def search_target(target: Target, kind: RuleSet) -> Any:
    """The target that sketches are generated and checked for.

    Plain sketches have static shared memory only, of which CUDA grants 48 KiB whatever
    the device has. Tensor sketches use dynamic shared memory.
    """
    if kind != "cuda":
        return _tvm.tvm_target(target)
    available = min(STATIC_SHARED_BYTES, target.shared_memory_per_block_bytes)
    return _tvm.tvm_target(replace(target, shared_memory_per_block_bytes=available))
