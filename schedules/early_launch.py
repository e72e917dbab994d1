"""Kernels that may start before the one in front of them has ended (compute capability 9.0).

CUDA calls it programmatic dependent launch. Such a kernel waits by itself (``griddepcontrol.wait``)
before it touches anything that another kernel writes; until then it may read constants. TVM's
runtime launches a kernel that way if a tag stands among its launch parameters, which no pass
of TVM puts there: programs carry a mark, and this module turns it into the tag.
"""

from __future__ import annotations

from typing import Any

from schedules import _tvm

EARLY_LAUNCH = "tirx.use_programtic_dependent_launch"
"""Key of the mark in a program, and the runtime's tag (spelled as TVM spells it)."""

_LAUNCH_PARAMETERS = "tirx.kernel_launch_params"
_DYNAMIC_SHARED = "tirx.use_dyn_shared_memory"


def with_early_launches(module: Any) -> Any:
    """Lowered functions of a module, marked kernels tagged for the runtime."""
    for name, function in module.functions.items():
        tags = [str(tag) for tag in (function.attrs or {}).get(_LAUNCH_PARAMETERS, [])]
        if tags and EARLY_LAUNCH not in tags and _is_marked(function):
            # The runtime wants the tag of dynamic shared memory last.
            at = len(tags) - (tags[-1] == _DYNAMIC_SHARED)
            tags.insert(at, EARLY_LAUNCH)
            module.update_func(name, function.with_attr(_LAUNCH_PARAMETERS, tags))
    return module


def _is_marked(function: Any) -> bool:
    import tvm_ffi

    found: list[Any] = []

    def note(statement: Any) -> None:
        if str(statement.attr_key) == EARLY_LAUNCH:
            found.append(statement)

    tvm_ffi.structural_walk(function.body, (_tvm.load().tirx.AttrStmt, note))
    return bool(found)
