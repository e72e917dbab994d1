"""Own operators as PyTorch functions: eager numbers, one node, the same numbers compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from effcompile.export import export_module
from effcompile.torch_ops import integer_softmax
from schedules.integer_exponential import integer_exponential
from schedules.integer_softmax_problem import DEFAULTS, widths_of
from schedules.references.integer_softmax import exponentials, shares
from tests.effcompile.lowered_models import lowered, operators, run_lowered

TWO: dict[str, Any] = {"form": "power_of_two", "score_bits": 8, "octave": 16, "table_bits": 15}


class Scores(nn.Module):
    """Masked scores, shares of 8 or 16 bits."""

    def __init__(self, attrs: dict[str, Any]) -> None:
        super().__init__()
        self.attrs = attrs

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return integer_softmax(x + mask, **self.attrs)


@pytest.mark.parametrize("attrs", [{"output": "shares"}, {"output_bits": 8}, TWO], ids=str)
def test_integer_softmax_is_one_operator_with_the_numbers_of_its_reference(
    attrs: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    x, mask = 2 * torch.randn(3, 5, 40), torch.zeros(5, 40)
    mask[:, 30:] = -torch.inf
    module = Scores(attrs).eval()
    known = {**DEFAULTS, **attrs}
    widths = widths_of(known)
    scores = (x + mask).numpy()
    expected = shares(*exponentials(scores, integer_exponential(known), widths), widths)
    eager = module(x, mask).numpy()
    program = lowered(export_module(module, (x, mask)))
    (found,) = run_lowered(program, [x.numpy(), mask.numpy()])
    assert operators(program) == ["integer_softmax"]
    scale = 2.0**widths.output_bits if widths.output == "shares" else 1
    for one in (eager, found):
        assert np.array_equal(one * scale, expected)


def test_what_pytorch_cannot_ask_for_is_explained() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="unknown bits"):
        integer_softmax(x, bits=4)
    with pytest.raises(ValueError, match="two outputs"):
        integer_softmax(x, output="deferred")
