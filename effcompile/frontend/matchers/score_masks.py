"""What hides keys between the first product of an attention and its softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.constants import constant_array
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.mask_blocks import MASKED_BELOW
from effcompile.frontend.matchers.expressions import Scope


def filled_scores(expression: Any, scope: Scope) -> tuple[Any, Any] | None:
    """Scores of which a condition replaces some by a number that hides them, and the mask for that.

    The mask holds true where a key may be attended. Where the number is finite and the condition
    comes at run time it is added instead: rows without a key keep weights, as in PyTorch.
    """
    choice = scope.call(expression, "where")
    if choice is None:
        return None
    for kept, other in ((1, 2), (2, 1)):
        fill = scope.scalar(choice.args[other])
        if fill is not None and fill <= MASKED_BELOW:
            is_kept = kept == 1
            return choice.args[kept], _mask(choice.args[0], is_kept, fill, scope)
    return None


def _mask(condition: Any, is_kept: bool, fill: float, scope: Scope) -> Any:
    """The mask of a condition that holds where scores are kept, or where they are not."""
    from tvm import relax

    known = constant_array(scope.resolved(condition))
    if known is not None:
        allowed = known if is_kept else ~known
        if np.isneginf(fill) or allowed.any(axis=-1).all():
            return relax.const(allowed, "bool")
    if np.isneginf(fill):
        return condition if is_kept else scope.emit(relax.op.logical_not(condition))
    numbers = [relax.const(0.0, "float32"), relax.const(fill, "float32")]
    return scope.emit(relax.op.where(condition, *(numbers if is_kept else numbers[::-1])))


def masked_sum(mask: Any, bias: Any, scope: Scope) -> Any:
    """A bias of the scores under a mask from :func:`filled_scores`, as one mask."""
    from tvm import relax

    if type_of(mask)[1] != "bool":
        wide = scope.emit(relax.op.astype(bias, "float32"))
        return scope.emit(relax.op.add(wide, mask))
    hidden = relax.const(float("-inf"), type_of(bias)[1])
    return scope.emit(relax.op.where(mask, bias, hidden))
