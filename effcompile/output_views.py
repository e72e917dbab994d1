"""Results that are another shape of what a kernel wrote are that memory, not a copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schedules.analysis import is_view


def outputs_as_views(module: Any) -> Any:
    """The program with reshapes of results where TVM turns them into views.

    TVM copies a tensor whose reshape leaves a dataflow block. Here such a value gets a name
    inside of the block first. A reshape of an argument, or of another result, stays a copy:
    nobody expects two of those to share memory.

    Args:
        module: ``tvm.IRModule`` of Relax functions that call TIR functions; not changed.
    """
    import tvm
    from tvm import relax

    views = {
        variable
        for variable, function in module.functions_items()
        if isinstance(function, tvm.tirx.PrimFunc) and is_view(function)
    }
    changed = tvm.IRModule(module.functions, attrs=module.attrs)
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            changed[variable] = _with_views(function, views)
    return changed


def _with_views(function: Any, views: set[Any]) -> Any:
    from tvm import relax

    blocks = [
        relax.DataflowBlock(list(_bindings(block.bindings, views)))
        if isinstance(block, relax.DataflowBlock)
        else block
        for block in function.body.blocks
    ]
    return relax.Function(
        function.params,
        relax.SeqExpr(blocks, function.body.body),
        function.ret_ty,
        function.is_pure,
        function.attrs,
    )


def _bindings(bindings: Any, views: set[Any]) -> Iterator[Any]:
    from tvm import relax

    own = set()
    for binding in bindings:
        callee, source = _call(binding)
        is_inner = isinstance(binding.var, relax.DataflowVar)
        if is_inner and callee is not None and callee not in views:
            own.add(binding.var)
        if is_inner or callee not in views or source not in own:
            yield binding
            continue
        inner = relax.DataflowVar(binding.var.name, binding.var.ty)
        yield relax.VarBinding(inner, binding.value)
        yield relax.VarBinding(binding.var, inner)


def _call(binding: Any) -> tuple[Any, Any]:
    """The TIR function that a binding calls and its first argument."""
    import tvm
    from tvm import relax

    call = getattr(binding, "value", None)
    if not isinstance(call, relax.Call) or call.op != tvm.ir.Op.get("relax.call_tir"):
        return None, None
    arguments = getattr(call.args[1], "fields", [call.args[1]])
    return call.args[0], arguments[0] if len(arguments) else None
