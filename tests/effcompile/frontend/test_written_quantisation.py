"""Linear layers that unpack their own quantised weights become packed products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from effcompile.export import export_module
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from tests.effcompile.lowered_models import CPU, operators, run_lowered

pytestmark = pytest.mark.timeout(120)

DEPTH, COLUMNS, GROUP = 256, 96, 64
N_GROUPS = DEPTH // GROUP


class Quantised(torch.nn.Module):
    """A product with a matrix that a function unpacks from codes, scales and zero points."""

    def __init__(self, unpack: Callable[..., Any], codes: Any, scales: Any, zeros: Any) -> None:
        super().__init__()
        self.unpack = unpack
        for name, value in (("codes", codes), ("scales", scales), ("zeros", zeros)):
            self.register_buffer(name, value)

    def forward(self, x: Any) -> Any:
        return x @ self.unpack(self.codes, self.scales, self.zeros)


def codes_of(low: int, high: int, *shape: int, dtype: torch.dtype) -> Any:
    return torch.randint(low, high, shape, dtype=dtype)


def bytes_by_column(codes: Any, scales: Any, _: Any) -> Any:
    return (codes.to(scales.dtype) * scales).t()


def groups(codes: Any, scales: Any, zeros: Any) -> Any:
    parts = codes.view(COLUMNS, -1, GROUP).to(scales.dtype) - zeros.to(scales.dtype)
    return (parts * scales).view(COLUMNS, DEPTH).t()


def nibbles(codes: Any, scales: Any, _: Any) -> Any:
    low, high = (codes & 15).to(torch.int8) - 8, (codes >> 4).to(torch.int8) - 8
    whole = torch.stack((low, high), -1).reshape(COLUMNS, -1, GROUP)
    return (whole.to(scales.dtype) * scales).reshape(COLUMNS, DEPTH).t()


def whole_words(codes: Any, scales: Any, zeros: Any) -> Any:
    shifts = torch.arange(0, 32, 4, dtype=torch.int32).view(1, 8, 1)
    whole = torch.bitwise_and(torch.bitwise_right_shift(codes.unsqueeze(1), shifts), 15)
    group = torch.arange(DEPTH) // GROUP
    return scales[group] * (whole.reshape(DEPTH, COLUMNS) - zeros[group]).to(scales.dtype)


def in_float32(codes: Any, scales: Any, _: Any) -> Any:
    return (codes.float() * scales.float() / 127.0).to(scales.dtype).t()


def case(name: str) -> Quantised:
    torch.manual_seed(0)
    signed = codes_of(-127, 128, COLUMNS, DEPTH, dtype=torch.int8)
    by_group, by_column = torch.rand(COLUMNS, N_GROUPS, 1), torch.rand(COLUMNS, 1)
    points = codes_of(0, 16, COLUMNS, N_GROUPS, 1, dtype=torch.uint8)
    return {
        "bytes by column": lambda: Quantised(bytes_by_column, signed, by_column, points),
        "scaled in float32": lambda: Quantised(in_float32, signed, by_column, points),
        "groups with zeros": lambda: Quantised(
            groups, codes_of(0, 16, COLUMNS, DEPTH, dtype=torch.uint8), by_group, points
        ),
        "nibbles": lambda: Quantised(
            nibbles, codes_of(0, 256, COLUMNS, DEPTH // 2, dtype=torch.uint8), by_group, points
        ),
        "words of eight": lambda: Quantised(
            whole_words,
            codes_of(-(2**31), 2**31 - 1, DEPTH // 8, COLUMNS, dtype=torch.int32),
            torch.rand(N_GROUPS, COLUMNS),
            codes_of(0, 16, N_GROUPS, COLUMNS, dtype=torch.int32),
        ),
    }[name]()


BYTES = {"bytes by column": 1.0, "scaled in float32": 1.0}


@pytest.mark.parametrize(
    "name",
    ["bytes by column", "scaled in float32", "groups with zeros", "nibbles", "words of eight"],
)
def test_unpacking_arithmetic_becomes_a_packed_product(name: str) -> None:
    module, x = case(name).eval(), torch.randn(3, DEPTH)
    program = lower({"main": prepare_model(export_module(module, (x,)))}, CPU)
    assert operators(program) == ["gemv_dequant"]
    largest = max(one.nbytes for one in program.parameters.values())
    assert largest == BYTES.get(name, 0.5) * DEPTH * COLUMNS
    (found,) = run_lowered(program, [x.numpy()])
    expected = module(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_other_constant_matrices_stay_as_they_are() -> None:
    def uneven(codes: Any, scales: Any, _: Any) -> Any:
        return (codes.to(scales.dtype) * scales).t()

    codes = codes_of(-127, 128, COLUMNS, DEPTH, dtype=torch.int8)
    module = Quantised(uneven, codes, torch.rand(COLUMNS, DEPTH), torch.zeros(1)).eval()
    x = torch.randn(3, DEPTH)
    program = lower({"main": prepare_model(export_module(module, (x,)))}, CPU)
    assert operators(program) == []
