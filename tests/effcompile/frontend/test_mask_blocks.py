"""Masks of models: which become blocks, which rules of positions, which stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from effcompile.export import export_module
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.mask_blocks import window_rule
from effcompile.lower import lower
from schedules.inputs import make_inputs
from schedules.mask_tiles import (
    MaskTiles,
)
from schedules.references.attention import reference
from schedules.spaces import spaces_for
from schedules.target import known_target
from schedules.workload import Workload
from tests.schedules.masked_workloads import (
    dense,
    frames,
    packed,
    sliding,
)
from tests.schedules.test_attention import H200


class Attend(nn.Module):
    """Standard attention under a constant mask."""

    def __init__(self, mask: np.ndarray, form: str) -> None:
        super().__init__()
        self.form = form
        seen = torch.from_numpy(mask)
        lowest = -torch.inf if form == "infinite" else torch.finfo(torch.float16).min
        self.register_buffer("mask", seen if form == "bool" else torch.where(seen, 0.0, lowest))

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        mask = self.mask if self.form == "bool" else self.mask.to(query.dtype)
        if self.form == "written_out":
            scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5 + mask
            return torch.softmax(scores, -1) @ value
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def workload_of(model: Any) -> Workload:
    (found,) = extract_tasks(lower({"main": prepare_model(model)}, H200), H200)
    assert spaces_for(found.task)[0] == "attention_masked"
    return found.task.workload


@pytest.mark.parametrize("form", ["bool", "lowest", "written_out"])
def test_a_constant_mask_of_a_torch_module_becomes_blocks(form: str) -> None:
    mask = packed([50, 70, 60])
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    layer = Attend(mask, form)
    workload = workload_of(export_module(layer, tokens))
    assert workload.attrs["mask"] == "tiles"
    inputs = make_inputs(workload, seed=0)
    np.testing.assert_array_equal(dense(MaskTiles(*inputs[3:]), 180, 180), mask)
    (wanted,) = reference(workload, [*(x.numpy() for x in tokens), *inputs[3:]])
    np.testing.assert_allclose(layer(*tokens).numpy(), wanted.values, atol=4e-3)


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        (np.tri(50, dtype=bool), AttentionRule(causal=True)),
        (np.tri(20, 50, 30, dtype=bool), AttentionRule(causal=True, offset=30)),
        (sliding(90, 7)[0, 0], AttentionRule(causal=True, offset=7, window_left=14)),
        (np.ones((20, 50), bool), AttentionRule()),
        (np.ones((1, 50), bool), AttentionRule()),
        (packed([20, 30])[0, 0], None),
        (frames([20, 30])[0, 0], None),
        (np.tri(50, k=-1, dtype=bool), None),
    ],
    ids=["causal", "cache", "window", "all", "all_keys", "packed", "frames", "empty_row"],
)
def test_masks_of_positions_become_rules(pairs: np.ndarray, rule: AttentionRule | None) -> None:
    plain = AttentionRule(scale=0.5, softcap=3.0)
    wanted = rule and replace(rule, scale=0.5, softcap=3.0)
    assert window_rule(pairs[None, None], plain, max(len(pairs), 20)) == wanted


def test_a_constant_causal_mask_needs_no_mask() -> None:
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    model = prepare_model(
        export_module(Attend(np.tri(180, dtype=bool)[None, None], "bool"), tokens)
    )
    (found,) = extract_tasks(lower({"main": model}, H200), H200)
    assert spaces_for(found.task)[0] == "attention"
    assert found.task.workload.attrs["causal"] and len(found.task.workload.inputs) == 3


def test_a_mask_that_adds_numbers_stays_one_of_numbers() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bias", torch.randn(180, 180).half())

        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return scaled_dot_product_attention(q, k, v, attn_mask=self.bias)

    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    assert workload_of(export_module(Biased(), tokens)).attrs["mask"] == "float"


@pytest.mark.parametrize(
    ("target", "first"), [("h200", "attention_masked"), ("a100", "attention_mma")]
)
def test_blocks_have_a_family_on_every_generation(target: str, first: str) -> None:
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    model = prepare_model(export_module(Attend(packed([50, 70, 60]), "bool"), tokens))
    chosen = known_target(target)
    (found,) = extract_tasks(lower({"main": model}, chosen), chosen)
    assert spaces_for(found.task)[0] == first
