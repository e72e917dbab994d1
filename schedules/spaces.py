"""Which design spaces serve a task, and opening one by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from schedules.bounded import BoundedCache
from schedules.defaults import DefaultSpace, intermediate_bytes
from schedules.errors import UnknownSpace
from schedules.families import SUPERSEDED, own_spaces
from schedules.generic import TvmSpace
from schedules.knobs import KnobSpace
from schedules.space import DesignSpace
from schedules.task import Task

KEPT_SPACES = 32
KEPT_TASKS = 128
# A tenth of a second of work for an untuned schedule of attention, which moves little else.
MOST_INTERMEDIATE_BYTES = 512 << 20

_Key = tuple[str, str]

_open: BoundedCache[tuple[_Key, str], DesignSpace] = BoundedCache(KEPT_SPACES)
_own: BoundedCache[_Key, list[KnobSpace]] = BoundedCache(KEPT_TASKS)


def open_space(task: Task, name: str) -> DesignSpace:
    """The named space of a task; the same object for the same task while it is in use.

    Raises:
        UnknownSpace: No such space serves this task; the message lists those that do.
    """
    return _open.get((_key(task), name), lambda: _make(task, name))


def _key(task: Task) -> _Key:
    return task.workload.workload_id, repr(task.target)


def _own_spaces(task: Task) -> list[KnobSpace]:
    """The families' spaces of a task; their points are enumerated once."""
    return _own.get(_key(task), lambda: own_spaces(task))


def _make(task: Task, name: str) -> DesignSpace:
    if name == DefaultSpace.name:
        return DefaultSpace(task, _stand_in(task))
    if name == TvmSpace.name:
        return TvmSpace(task)
    for own in _own_spaces(task):
        if own.name == name:
            return own
    raise UnknownSpace(
        f"no design space {name!r} for {task.workload.name} on {task.target.kind}: "
        f"expected one of {', '.join([*spaces_for(task), DefaultSpace.name])}."
    )


def _stand_in(task: Task) -> KnobSpace | None:
    """The family's space that gives a default where the program itself needs too much memory."""
    spaces = _own_spaces(task)
    if not spaces or intermediate_bytes(task.workload) <= MOST_INTERMEDIATE_BYTES:
        return None
    return spaces[0]


def require_spaces(tasks: Sequence[Task], names: Collection[str]) -> None:
    """Refuse names of spaces of which none serves any of the tasks.

    Raises:
        UnknownSpace: The message lists the spaces that do.
    """
    known = {own.name for task in tasks for own in _own_spaces(task)} | {TvmSpace.name}
    if names and tasks and not known & set(names):
        raise UnknownSpace(
            f"no kernel of this model can be searched in {' or '.join(names)} on "
            f"{tasks[0].target.name}: expected {' or '.join(sorted(known))}."
        )


def spaces_for(
    task: Task,
    opener: Callable[[Task, str], DesignSpace] | None = None,
    *,
    only: Collection[str] = (),
) -> list[str]:
    """Names of the spaces worth searching, own families first; may be empty.

    ``default`` is left out: it can always be opened, but holds a single candidate.

    Args:
        task: Whose spaces.
        opener: How to open one; :func:`open_space` unless given.
        only: Names that are wanted, where one of them covers the task; every one unless given.
    """
    names = [own.name for own in _own_spaces(task)]
    tvm_space = (opener or open_space)(task, TvmSpace.name)
    if isinstance(tvm_space, TvmSpace) and tvm_space.is_searchable:
        names.append(TvmSpace.name)
    wanted = [name for name in names if name in only]
    return wanted or [name for name in names if not set(SUPERSEDED.get(name, ())) & set(names)]
