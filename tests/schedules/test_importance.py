"""Importance of keys without a GPU: its reference, its front end, what it builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from effcompile.export import export_module
from effcompile.torch_ops import last_row_importance
from schedules.importance import ImportanceSpace, importance_space
from schedules.inputs import make_inputs
from schedules.program_reference import run_program
from schedules.references.last_row_importance import reference
from schedules.spaces import spaces_for
from schedules.target import known_target
from tests.effcompile.lowered_models import lowered, operators, run_lowered
from tests.schedules.building import built
from tests.schedules.importance_workloads import Importance

SMALL = Importance(heads=4, kv_heads=2, keys=300, queries=3, width=16, dtype="float32", batch=2)


class Layer(nn.Module):
    """Attention, and what its last query pays to every key."""

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed, last_row_importance(query, key)


def test_the_reference_is_the_mean_of_the_last_rows_weights() -> None:
    workload = SMALL.task().workload
    query, key = make_inputs(workload, seed=0)
    (found,) = reference(workload, [query, key])
    wanted = np.zeros((2, 300))
    for b in range(2):
        for h in range(4):
            scores = key[b, h // 2].astype(np.float64) @ query[b, h, 2] * 16**-0.5
            weights = np.exp(scores)
            wanted[b] += weights / weights.sum() / 4
    np.testing.assert_allclose(found.values, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.values.sum(axis=1), 1.0)
    (program,) = run_program(workload, [query, key])
    np.testing.assert_allclose(program, wanted, rtol=1e-6)


def test_a_torch_module_has_attention_and_importance() -> None:
    torch.manual_seed(0)
    given = tuple(torch.randn(1, 2, 100, 16) for _ in range(3))
    program = lowered(export_module(Layer(), given))
    assert sorted(operators(program)) == ["attention", "last_row_importance"]
    found = run_lowered(program, [x.numpy() for x in given])
    for one, wanted in zip(found, Layer()(*given), strict=True):
        np.testing.assert_allclose(one, wanted.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "device", "covered"),
    [
        (Importance(heads=28, kv_heads=4, keys=4000), "h200", True),
        (Importance(heads=28, kv_heads=4, keys=4000, dtype="bfloat16"), "a100", True),
        (Importance(heads=4, kv_heads=4, keys=100, width=72), "h200", True),
        (Importance(heads=4, kv_heads=4, keys=100, width=20), "h200", False),
        (Importance(heads=4, kv_heads=4, keys=100, dtype="float32"), "h200", False),
    ],
    ids=["grouped", "ampere", "width_72", "odd_width", "float32"],
)
def test_what_is_covered(case: Importance, device: str, covered: bool) -> None:
    task = case.task(known_target(device))
    assert (importance_space(task) is not None) == covered
    assert (spaces_for(task)[0] == "last_row_importance") == covered


@pytest.mark.slow
@pytest.mark.parametrize("heads", [28, 64])
def test_points_build_and_can_launch(heads: int, tmp_path: Path) -> None:
    space = importance_space(Importance(heads=heads, kv_heads=4, keys=4000).task())
    assert isinstance(space, ImportanceSpace)
    for candidate in space.sample(1, np.random.default_rng(0)):
        program = space.program_module(space.values_of(candidate))
        made = built(program, known_target("h200"), tmp_path)
        assert [kernel.spill_bytes for kernel in made.stats.kernels] == [0, 0]
