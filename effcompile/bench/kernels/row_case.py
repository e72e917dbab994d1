"""Cases of operators that turn rows into other rows: what they have in common.

Peers get what they need (segment numbers, 64-bit indices) prepared outside of the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, inductor
from effcompile.bench.kernels.custom_models import Shapes, custom_model

DEVICE = "cuda"

Function = Callable[..., Any]
Prepare = Callable[[Tensors], Tensors]


def row_case(
    name: str,
    shapes: Shapes,
    outputs: Shapes,
    *,
    op_type: str,
    attrs: Mapping[str, Any],
    inputs: Callable[[Any], list[Any]],
    function: Function,
    prepare: Prepare = tuple,
    n_bytes: int,
    tolerance: float,
    n_compared: int = 1,
    family: str = "merge",
) -> KernelCase:
    """A case whose peers compute ``function`` of what ``prepare`` makes of the inputs."""

    def seeded(seed: int) -> list[Any]:
        import torch

        return inputs(torch.Generator(DEVICE).manual_seed(seed))

    def reference(tensors: Tensors) -> Tensors:
        found = function(*(_raised(one) for one in prepare(tensors)))
        return found if isinstance(found, tuple) else [found]

    return KernelCase(
        name=name,
        family=family,
        model=partial(custom_model, op_type, shapes, outputs, **attrs),
        inputs=seeded,
        reference=reference,
        sample=lambda found: list(found)[:n_compared],
        n_bytes=n_bytes,
        tolerance=tolerance,
        peers={
            "torch eager": _eager(function, prepare),
            "inductor max-autotune": _compiled(function, prepare),
        },
    )


def _raised(tensor: Any) -> Any:
    return tensor.double() if tensor.is_floating_point() else tensor


def _eager(function: Function, prepare: Prepare) -> Peer:
    def peer(inputs: Tensors) -> Callable[[], Any]:
        prepared = prepare(inputs)
        return lambda: function(*prepared)

    return peer


def _compiled(function: Function, prepare: Prepare) -> Peer:
    peer = inductor(function)
    return lambda inputs: peer(prepare(inputs))


def normal(shape: tuple[int, ...], dtype: str, generator: Any) -> Any:
    """N(0, 1) on the GPU."""
    import torch

    kind = getattr(torch, dtype)
    return torch.randn(shape, device=DEVICE, dtype=kind, generator=generator)


def whole(values: Any) -> Any:
    """Values as int32 on the GPU."""
    import torch

    return torch.as_tensor(values, device=DEVICE).to(torch.int32)


def long(tensor: Any) -> Any:
    """Indices as peers want them."""
    return tensor.long()
