"""Gates of 16-bit layers as PyTorch exports them: which functions they become, and numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from effcompile.export import export_module
from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, lower
from schedules.contraction_problem import contraction_of
from schedules.programs import workload_of
from schedules.target import Target, known_target
from tests.effcompile.lowered_models import CPU, run_lowered

WIDTH, COLUMNS = 24, 44
H200 = known_target("h200")


class Gated(nn.Module):
    """``activation(gate) * up``, then a layer back."""

    def __init__(self, activation: Callable[..., torch.Tensor], *, bias: bool) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(WIDTH, COLUMNS, bias=bias) for _ in range(2))
        self.down, self.activation = nn.Linear(COLUMNS, WIDTH, bias=False), activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


def program_of(module: nn.Module, target: Target = H200) -> LoweredProgram:
    """The lowered module, after its numbers on a CPU were compared with PyTorch's."""
    torch.manual_seed(0)
    module = module.half().eval()
    x = torch.randn(2, 5, WIDTH).half()
    program = lower({"main": prepare_model(export_module(module, (x,)))}, target)
    (found,) = run_lowered(program, [x.numpy()])
    with torch.no_grad():
        wanted = module.float()(x.float()).numpy()
    np.testing.assert_allclose(found.astype(float), wanted, rtol=5e-3, atol=5e-3)
    return program


def gated_functions(program: LoweredProgram) -> list[int]:
    """Columns of the product per element of the output, for every product."""
    found = []
    for variable, function in program.module.functions_items():
        if "matmul" in variable.name_hint:
            problem = contraction_of(workload_of(function, name=variable.name_hint))
            assert problem is not None
            found.append(problem.each)
    return sorted(found)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("activation", "bias"),
    [
        (functional.silu, False),
        (lambda x: functional.gelu(x, approximate="tanh"), True),
    ],
    ids=["swiglu", "geglu with biases"],
)
def test_gate_and_opened_are_one_product(
    activation: Callable[..., torch.Tensor], bias: bool
) -> None:
    assert gated_functions(program_of(Gated(activation, bias=bias))) == [1, 2]


@pytest.mark.timeout(60)
def test_without_tensor_cores_they_stay_apart() -> None:
    assert gated_functions(program_of(Gated(functional.silu, bias=False), CPU)) == [1, 1, 1]


class Halves(nn.Module):
    """A layer whose halves are the gate and what it opens, as diffusers write GEGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(WIDTH, 2 * COLUMNS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        opened, gate = self.both(x).chunk(2, -1)
        return opened * functional.gelu(gate)


@pytest.mark.timeout(60)
def test_halves_of_one_layer_are_a_gate_too() -> None:
    assert gated_functions(program_of(Halves())) == [2]
