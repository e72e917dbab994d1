"""What every design space must do, run over all of them on both kinds of target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate, UnknownSpace
from schedules.families import own_spaces
from schedules.generic import TvmSpace
from schedules.softmax import softmax_space
from schedules.space import DesignSpace
from schedules.spaces import open_space, spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.conv_workloads import Conv, conv_workload
from tests.schedules.decode_workloads import Decode
from tests.schedules.elementwise_workloads import SWIGLU, workload_of
from tests.schedules.gemv_workloads import gemv_workload
from tests.schedules.head_norm_workloads import head_norm, queries
from tests.schedules.importance_workloads import Importance
from tests.schedules.integer_softmax_workloads import integer_softmax
from tests.schedules.masked_workloads import lowered_frames
from tests.schedules.merge_workloads import chains, mean
from tests.schedules.norm_workloads import norm
from tests.schedules.products import Product, product_workload

CASES = [(name, kind) for name in ("default", "tvm", "softmax") for kind in ("cpu", "gpu")]
OTHERS = {
    "merge": lambda: mean((2, 40, 96), 9, "bfloat16"),
    "attention_decode": lambda: Decode(
        heads=8, kv_heads=2, keys=900, width=64, lengths="int32"
    ).workload(),
    "attention_mma": lambda: Decode(
        heads=4, kv_heads=2, queries=70, keys=90, width=64, lengths="int32", causal=True
    ).workload(),
    "row_norm": lambda: norm((24, 96), "bfloat16", bias=True),
    "head_norm": lambda: head_norm(queries("bfloat16", 1, 24, 3, 64)),
    "integer_softmax": lambda: integer_softmax((24, 96), "float16"),
    "elementwise": lambda: workload_of(SWIGLU, "bfloat16", (24, 96), a=(24, 96), b=(24, 96)),
    "chain_segments": lambda: chains(67, 6, 20),
    "matmul_simt": lambda: product_workload(
        Product(m=24, n=40, k=56, dtype="float32", ending="gelu")
    ),
    "gemv_dequant": lambda: gemv_workload(
        2, 100, 512, 4, 128, gated=True, activation="silu", bias=True
    ),
    "gemm_dequant": lambda: gemv_workload(300, 200, 512, 3, 128, residual=True),
    "gemm_fused": lambda: gemv_workload(300, 200, 512, 4, 128, residual=True),
    "attention_masked": lambda: lowered_frames([100, 60]),
    "last_row_importance": lambda: (
        Importance(heads=6, kv_heads=2, keys=300, width=64).task().workload
    ),
    "matmul_mma": lambda: product_workload(Product(m=48, n=60, k=100, ending="gelu")),
    "matmul_rows": lambda: product_workload(Product(m=3, n=40, k=256, layout="nt")),
    "conv": lambda: conv_workload(Conv(height=10, width=9, channels=16, filters=24)),
    "conv_windows": lambda: conv_workload(
        Conv(height=10, width=18, channels=4, filters=24, kernel=4, stride=2, padding=(1, 0, 2, 0))
    ),
}
CASES += [(name, "gpu") for name in OTHERS]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, softmax: Callable[..., Workload]) -> tuple[Task, str]:
    name, kind = request.param
    target: Target = request.getfixturevalue(kind)
    if name == "attention_mma":  # on Hopper other families serve what it does
        target = known_target("a100")
    if name == "attention_masked":
        target = known_target("h200")
    workload = OTHERS[name]() if name in OTHERS else softmax((8, 96))
    return Task(workload=workload, target=target), name


def families_of(case: tuple[Task, str]) -> list[str]:
    """The own families that cover the case."""
    if case[1] == "matmul_rows":
        return ["matmul_rows", "matmul"]
    if case[1] in {"gemm_dequant", "gemm_fused"}:
        return ["gemm_dequant", "gemm_fused"]
    return [case[1] if case[1] in OTHERS else "softmax"]


@pytest.fixture(scope="module")
def space(case: tuple[Task, str]) -> DesignSpace:
    return open_space(*case)


def fresh(case: tuple[Task, str]) -> DesignSpace:
    """The same space as another process would open it: without anything cached."""
    task, name = case
    if name == "tvm":
        return TvmSpace(task)
    if name == "softmax":
        made = softmax_space(task)
        assert made is not None
        return made
    if name in OTHERS:
        (made,) = [one for one in own_spaces(task) if one.name == name]
        return made
    return open_space(task, name)


def test_samples_are_distinct_and_named_after_the_space(space: DesignSpace) -> None:
    candidates = space.sample(12, rng())
    assert 1 <= len(candidates) <= 12
    assert len({candidate.candidate_id for candidate in candidates}) == len(candidates)
    assert {candidate.space for candidate in candidates} == {space.name}


def test_nothing_asked_nothing_given(space: DesignSpace) -> None:
    assert space.sample(0, rng()) == []
    assert space.mutate([], rng()) == []
    assert len(space.features([])) == 0


def test_equal_generators_give_equal_candidates(case: tuple[Task, str]) -> None:
    first, second = fresh(case), fresh(case)
    parents = first.sample(6, rng(3))
    assert parents == second.sample(6, rng(3))
    assert first.mutate(parents, rng(4)) == second.mutate(parents, rng(4))


def test_children_differ_from_their_parents(space: DesignSpace) -> None:
    parents = space.sample(8, rng())
    children = space.mutate(parents, rng())
    assert len(children) == len(parents)
    assert all(child != parent for parent, child in zip(parents, children, strict=True))


def test_every_candidate_is_realised_the_same_anywhere(
    space: DesignSpace, case: tuple[Task, str]
) -> None:
    import tvm_ffi

    parents = space.sample(4, rng())
    children = [child for child in space.mutate(parents, rng()) if child is not None]
    elsewhere = fresh(case)
    for candidate in [*parents, *children]:
        module = space.realise(candidate)
        assert [variable.name_hint for variable in module.get_global_vars()] == ["main"]
        assert tvm_ffi.structural_equal(module, elsewhere.realise(candidate))


def test_features_are_finite_rows_of_one_width(space: DesignSpace) -> None:
    candidates = space.sample(5, rng())
    features = space.features(candidates)
    assert features.dtype == np.float32
    assert features.shape[0] == len(candidates)
    assert np.isfinite(features).all()
    assert np.array_equal(features, space.features(candidates))
    if space.name != "default":
        assert len(np.unique(features, axis=0)) > 1


@pytest.mark.parametrize(
    "decisions", ["", "null", "[]", '{"no_such_knob":1}', '[[["NoSuchStep",[],[],[]]],[]]']
)
def test_foreign_decisions_are_refused(space: DesignSpace, decisions: str) -> None:
    with pytest.raises(IllegalCandidate, match="candidate"):
        space.realise(Candidate(space=space.name, decisions=decisions))


def test_candidates_of_another_space_are_refused(space: DesignSpace) -> None:
    (candidate, *_) = space.sample(1, rng())
    with pytest.raises(IllegalCandidate, match="space 'elsewhere'"):
        space.realise(Candidate(space="elsewhere", decisions=candidate.decisions))


def test_every_realised_program_builds_for_cuda(
    space: DesignSpace, case: tuple[Task, str], cuda_source: Callable[..., str]
) -> None:
    task, _ = case
    if task.target.kind != "cuda":
        pytest.skip("CPU programs are run, not only built, elsewhere")
    for candidate in space.sample(3, rng(7)):
        assert "__global__" in cuda_source(space.realise(candidate), task.target)


def test_every_realised_program_is_right_on_this_cpu(
    space: DesignSpace, case: tuple[Task, str], run_on_cpu: Callable[..., Any]
) -> None:
    task, _ = case
    if task.target.kind != "llvm":
        pytest.skip("needs a GPU")
    for candidate in space.sample(3, rng(7)):
        assert run_on_cpu(task.workload, space.realise(candidate)) is None


def test_unknown_space_lists_what_exists(case: tuple[Task, str]) -> None:
    with pytest.raises(UnknownSpace, match=f"{', '.join(families_of(case))}, tvm, default"):
        open_space(case[0], "imaginary")


def test_own_families_come_first(case: tuple[Task, str]) -> None:
    assert spaces_for(case[0]) == [*families_of(case), "tvm"]
