"""Constants that are only moved or cast, computed at once.

The compiler's own folding builds and runs a kernel for each of them; exporters leave
hundreds (transposed weights, reshaped biases), so this is most of the time of an import.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from effcompile.dtypes import is_extended
from schedules import _tvm


def fold_moved_constants() -> Any:
    """A pass that replaces reshape, transpose, squeeze and cast of a constant by a constant."""
    tvm = _tvm.load()

    def run(module: Any, _context: Any) -> Any:
        for variable, function in module.functions_items():
            if isinstance(function, tvm.relax.Function):
                module[variable] = _folder_class()(module).visit_expr(function)
        return module

    return tvm.transform.module_pass(run, opt_level=0, name="FoldMovedConstants")


@cache
def _folder_class() -> Any:
    tvm = _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Folder(relax.PyExprMutator):  # type: ignore[misc]
        """Looks through bindings, so that chains of moves fold too."""

        def visit_call_(self, call: Any) -> Any:
            call = super().visit_call_(call)
            move = _MOVES.get(getattr(call.op, "name", ""))
            if move is None:
                return call
            value = constant_array(self.resolved(call.args[0]))
            shape = call.ty.shape if isinstance(call.ty, relax.TensorType) else None
            if value is None or not isinstance(shape, relax.ShapeExpr):
                return call
            if not all(isinstance(extent, tvm.tirx.IntImm) for extent in shape.values):
                return call
            moved = move(value, call, tuple(int(extent) for extent in shape.values))
            # Without a dtype, float64 would become float32; and a scalar must stay one.
            return relax.const(np.asarray(moved, order="C"), str(call.ty.dtype))

        def resolved(self, expression: Any) -> Any:
            bound = None
            if isinstance(expression, relax.Var):
                bound = self.lookup_binding(expression)
            return expression if bound is None else bound

    return Folder


def constant_array(expression: Any) -> np.ndarray | None:
    """The value of a constant tensor, read-only; ``None`` for any other expression."""
    value: Any = getattr(expression, "value", None)
    if type(expression).__name__ != "GenericConst" or not hasattr(value, "numpy"):
        return None
    # NumPy shares no memory of bfloat16 and 8-bit floats.
    is_shared = not is_extended(str(value.dtype))
    array: np.ndarray = np.from_dlpack(value) if is_shared else value.numpy()
    array.flags.writeable = False
    return array


Move = Callable[[np.ndarray, Any, tuple[int, ...]], np.ndarray]


def _reshaped(value: np.ndarray, _call: Any, shape: tuple[int, ...]) -> np.ndarray:
    return value.reshape(shape)


def _transposed(value: np.ndarray, call: Any, _shape: tuple[int, ...]) -> np.ndarray:
    axes = call.attrs.axes
    return value.transpose(None if axes is None else [int(axis) for axis in axes])


def _cast(value: np.ndarray, call: Any, _shape: tuple[int, ...]) -> np.ndarray:
    return value.astype(str(call.ty.dtype)) if str(call.ty.dtype) != "bfloat16" else _bf16(value)


def _bf16(value: np.ndarray) -> np.ndarray:
    import ml_dtypes

    return value.astype(ml_dtypes.bfloat16)


_MOVES: dict[str, Move] = {
    "relax.reshape": _reshaped,
    "relax.expand_dims": _reshaped,
    "relax.squeeze": _reshaped,
    "relax.permute_dims": _transposed,
    "relax.astype": _cast,
}
