"""A norm whose result is scaled and shifted per group of rows, as diffusion transformers do."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.norms import LAYER_NORM, RMS_NORM, Norm, norm_call, norm_of
from effcompile.frontend.matchers.expressions import Scope


def match_modulated_norm(call: Any, scope: Scope) -> Any:
    """``norm(x) * (1 + scale) + shift`` as one norm, or ``None``.

    Norms are marked functions by now. Scale and shift have the shape of ``x`` up to some axis, and
    extent 1 between that axis and the last one.
    """
    if call.op.name != "relax.add":
        return None
    for this, other in ((0, 1), (1, 0)):
        product = scope.call(call.args[this], "multiply")
        found = None if product is None else _scaled_norm(product, scope)
        if found is None:
            continue
        x, norm, scale = found
        factors = [_by_group(one, x, scope) for one in (scale, call.args[other])]
        if type_of(call) != type_of(x) or None in factors:
            continue
        if type_of(factors[0])[0] != type_of(factors[1])[0]:
            continue
        modulated = replace(norm, modulation=(factors[0], factors[1]))
        return norm_call(scope.builder, x, modulated)
    return None


def _scaled_norm(product: Any, scope: Scope) -> tuple[Any, Norm, Any] | None:
    """``x`` and the norm in ``norm * (1 + scale)``, and the scale."""
    for this, other in ((0, 1), (1, 0)):
        marked = scope.marked(product.args[this])
        added = scope.call(product.args[other], "add")
        scalar = None if added is None else scope.either_scalar(added)
        if marked is None or marked[0] not in (LAYER_NORM, RMS_NORM):
            continue
        if scalar is not None and scalar[1] == 1.0 and not marked[1].get("modulated"):
            return (*norm_of(*marked), scalar[0])
    return None


def _by_group(factor: Any, x: Any, scope: Scope) -> Any:
    """A factor as (groups, width); ``None`` if it is not one value per group and feature."""
    from tvm import relax

    shape, dtype = type_of(x)
    found, found_dtype = type_of(factor)
    if not all(isinstance(extent, int) for extent in (*shape, *found)):
        return None
    padded = [1] * (len(shape) - len(found)) + found
    n_leading = next((i for i, (a, b) in enumerate(zip(padded, shape, strict=True)) if a != b), 0)
    groups = shape[:n_leading] + [1] * (len(shape) - 1 - n_leading)
    if found_dtype != dtype or padded != [*groups, shape[-1]]:
        return None
    flat = (prod(groups), shape[-1])
    return factor if found == list(flat) else scope.emit(relax.op.reshape(factor, flat))
