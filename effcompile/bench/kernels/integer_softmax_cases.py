"""Softmax in integers alone, against the same integers by PyTorch; floats are in softmax_cases."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Tensors, direct, inductor
from effcompile.bench.kernels.custom_models import custom_model

PREFILL, DECODE = (32, 4096, 4096), (32, 1, 4096)
SNAPPED = {"score_bits": 8, "octave": 17, "guard_bits": 8, "clip_to_zero": 1, "sum_bits": 32}
POWER_OF_TWO = {
    "form": "power_of_two", "score_bits": 6, "octave": 4, "table_bits": 12, "sum_bits": 24,
}  # fmt: skip
COMPARED_ROWS = 512


def cases() -> list[KernelCase]:
    """Scores of 32 heads over 4096 keys."""
    return [
        _case("m6-n16", PREFILL, {}),
        _case("m8-snapped", PREFILL, SNAPPED),
        _case("two-m6", PREFILL, POWER_OF_TWO),
        _case("m6-p8", PREFILL, {"output_bits": 8}),
        _case("m6-n16", DECODE, {}),
    ]


def _case(form: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> KernelCase:
    code, size = ("uint8", 1) if attrs.get("output_bits") == 8 else ("uint16", 2)
    inputs, outputs = {"x": (shape, "float16")}, {"y": (shape, code)}
    return KernelCase(
        name=f"integer-softmax-{form}-{'x'.join(map(str, shape))}",
        family="integer_softmax",
        model=partial(custom_model, "IntegerSoftmax", inputs, outputs, **attrs),
        inputs=partial(_inputs, shape),
        reference=partial(_reference, attrs),
        sample=lambda found: [_some_rows(found[0])],
        n_bytes=prod(shape) * (2 + size),
        tolerance=0.0,
        peers={
            "torch eager, same integers": direct(partial(_eager, attrs)),
            "inductor max-autotune, same integers": inductor(partial(_eager, attrs)),
        },
    )


def _inputs(shape: tuple[int, ...], seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    return [2 * torch.randn(shape, device="cuda", dtype=torch.float16, generator=generator)]


def _eager(attrs: dict[str, Any], x: Any) -> Any:
    from effcompile.torch_ops import integer_softmax

    return integer_softmax(x, **attrs)


def _reference(attrs: dict[str, Any], inputs: Tensors) -> Tensors:
    """By NumPy, which shares no code with the peers."""
    import torch

    from schedules.integer_exponential import integer_exponential
    from schedules.integer_softmax_problem import DEFAULTS, widths_of
    from schedules.references.integer_softmax import exponentials, shares

    known = {**DEFAULTS, **attrs}
    widths = widths_of(known)
    scores = _some_rows(inputs[0]).cpu().numpy()
    parts = shares(*exponentials(scores, integer_exponential(known), widths), widths)
    return [torch.from_numpy(parts)]


def _some_rows(x: Any) -> Any:
    import torch

    rows = x.reshape(-1, x.shape[-1])
    chosen = torch.cat([rows[:COMPARED_ROWS].double(), rows[-COMPARED_ROWS:].double()])
    return chosen.to(x.dtype) if x.is_floating_point() else chosen
