"""A norm of half-precision rows between two casts, which it computes in float32 anyway."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.norms import LAYER_NORM, RMS_NORM, norm_call, norm_of
from effcompile.frontend.matchers.expressions import Scope


def match_narrow_norm(call: Any, scope: Scope) -> Any:
    """The norm of what lies before the first cast, in the dtype of the second, or ``None``."""
    if call.op.name != "relax.astype" or not scope.is_read_by(call.args[0], 1):
        return None
    marked = scope.marked(call.args[0])
    if marked is None or marked[0] not in (LAYER_NORM, RMS_NORM):
        return None
    x, norm = norm_of(*marked)
    source = scope.without_cast(x)
    if norm.modulation is not None or type_of(source) != type_of(call):
        return None
    return norm_call(scope.builder, source, norm)
