"""Which design spaces serve a task, and opening one by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from schedules.defaults import DefaultSpace
from schedules.errors import UnknownSpace
from schedules.families import own_spaces
from schedules.generic import TvmSpace
from schedules.space import DesignSpace
from schedules.task import Task

KEPT_SPACES = 32

_open: OrderedDict[tuple[str, str, str], DesignSpace] = OrderedDict()


def open_space(task: Task, name: str) -> DesignSpace:
    """The named space of a task; the same object for the same task while it is in use.

    Raises:
        UnknownSpace: No such space serves this task; the message lists those that do.
    """
    key = (task.workload.workload_id, repr(task.target), name)
    if key not in _open:
        _open[key] = _make(task, name)
    _open.move_to_end(key)
    while len(_open) > KEPT_SPACES:
        _open.popitem(last=False)
    return _open[key]


def _make(task: Task, name: str) -> DesignSpace:
    if name == DefaultSpace.name:
        return DefaultSpace(task)
    if name == TvmSpace.name:
        return TvmSpace(task)
    for own in own_spaces(task):
        if own.name == name:
            return own
    raise UnknownSpace(
        f"no design space {name!r} for {task.workload.name} on {task.target.kind}: "
        f"expected one of {', '.join([*spaces_for(task), DefaultSpace.name])}."
    )


def spaces_for(task: Task, opener: Callable[[Task, str], DesignSpace] | None = None) -> list[str]:
    """Names of the spaces worth searching, own families first; may be empty.

    ``default`` is left out: it can always be opened, but holds a single candidate.

    Args:
        task: Whose spaces.
        opener: How to open one; :func:`open_space` unless given.
    """
    names = [own.name for own in own_spaces(task)]
    tvm_space = (opener or open_space)(task, TvmSpace.name)
    if isinstance(tvm_space, TvmSpace) and tvm_space.is_searchable:
        names.append(TvmSpace.name)
    return names
