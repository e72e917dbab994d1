"""Sums in front of norms: which of them the norm computes, and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effcompile.export import export_module
from effcompile.frontend.kernels.marking import marks_of
from effcompile.lower import LoweredProgram
from tests.effcompile.lowered_models import lowered, operators, run_lowered

WIDTH = 24


class Sums(nn.Module):
    """``form`` says what is done with x, r, two norms and a linear layer."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.norm, self.rms = nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.linear, self.form = nn.Linear(WIDTH, WIDTH), form

    def forward(self, x: torch.Tensor, r: torch.Tensor) -> Any:
        return self.form(self, x, r)


def exported(form: Any, residual: tuple[int, ...] = (2, 5, WIDTH)) -> LoweredProgram:
    """The lowered module, after its numbers were compared with PyTorch's."""
    torch.manual_seed(0)
    module = Sums(form).eval()
    inputs = torch.randn(2, 5, WIDTH), torch.randn(residual)
    program = lowered(export_module(module, inputs))
    with torch.no_grad():
        results = module(*inputs)
    wanted = results if isinstance(results, tuple) else (results,)
    found = run_lowered(program, [one.numpy() for one in inputs])
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=2e-5, atol=2e-5)
    return program


def norms_with_sums(program: LoweredProgram) -> int:
    marks = [marks_of(f)[1] for _, f in program.module.functions_items() if f.attrs is not None]
    return sum(bool(one.get("residual")) for one in marks)


def kept(self: Any, x: Any, r: Any) -> Any:
    total = x + r
    return self.rms(total), total


def only_normal(self: Any, x: Any, r: Any) -> Any:
    return self.norm(r + x)


def read_by_two_norms(self: Any, x: Any, r: Any) -> Any:
    total = x + r
    return self.rms(total) * self.norm(total)


def sum_of_sums(self: Any, x: Any, r: Any) -> Any:
    total = x + r
    again = self.rms(total)
    final = total + again
    return self.norm(final), final


@pytest.mark.parametrize(
    ("form", "norms"),
    [
        (kept, ["rms_norm"]),
        (only_normal, ["layer_norm"]),
        (read_by_two_norms, ["layer_norm", "rms_norm"]),
    ],
)
def test_a_sum_is_part_of_the_norm_that_reads_it_first(form: Any, norms: list[str]) -> None:
    program = exported(form)
    assert operators(program) == norms
    assert norms_with_sums(program) == 1


def test_every_norm_of_a_chain_takes_its_sum() -> None:
    assert norms_with_sums(exported(sum_of_sums)) == 2


@pytest.mark.parametrize("shape", [(5, WIDTH), (1, 5, WIDTH)])
def test_places_are_added_to_every_image(shape: tuple[int, ...]) -> None:
    assert norms_with_sums(exported(kept, shape)) == 1


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (lambda self, x, r: self.norm(self.linear(x) + r), (2, 5, WIDTH)),
        (lambda self, x, r: self.norm(x + r.sigmoid()), (2, 5, WIDTH)),
        (lambda self, x, r: self.norm(x + r), (WIDTH,)),
        (lambda self, x, r: self.norm(x + r), (2, 5, 1)),
        (lambda self, x, r: self.norm(x + r), (2, 1, WIDTH)),
    ],
    ids=["product", "arithmetic", "bias", "one per row", "one per image"],
)
def test_other_sums_are_left_to_their_producers(form: Any, shape: tuple[int, ...]) -> None:
    assert norms_with_sums(exported(form, shape)) == 0


def test_a_sum_that_is_read_before_the_norm_is_computed_once() -> None:
    def form(self: Any, x: Any, r: Any) -> Any:
        total = x + r
        return self.linear(total), self.norm(total)

    program = exported(form)
    assert norms_with_sums(program) == 0
