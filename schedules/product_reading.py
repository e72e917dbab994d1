"""What readers of products and of convolutions do alike: from a program to its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from schedules import _tvm
from schedules.affine import NotAffine
from schedules.analysis import REDUCTION, leaf_blocks, new_schedule
from schedules.nest_parts import NotCovered
from schedules.tir_text import NotTranslated
from schedules.workload import Workload

T = TypeVar("T")


def may_be_product(workload: Workload) -> bool:
    """Whether it is worth looking at the program: one output of several inputs."""
    return workload.op == "generic" and len(workload.outputs) == 1 and len(workload.inputs) > 1


def read_program(program: str, reader: Callable[[Sequence[Any]], T]) -> T | None:
    """What a reader makes of a program's blocks, in their order; ``None`` if it gives up.

    Args:
        program: As a workload holds it.
        reader: May raise ``NotCovered``, ``NotAffine`` and ``NotTranslated``.
    """
    schedule = new_schedule(_tvm.load().ir.load_json(program))
    try:
        return reader([schedule.get(block) for block in leaf_blocks(schedule)])
    except (NotCovered, NotAffine, NotTranslated):
        return None


def around_sum(blocks: Sequence[Any]) -> tuple[Sequence[Any], Any, Sequence[Any]]:
    """The blocks before the only one that sums over an axis, that one, and those behind it.

    Raises:
        NotCovered: None does, or several do.
    """
    sums = [place for place, block in enumerate(blocks) if is_reduction(block)]
    if len(sums) != 1:
        raise NotCovered
    (place,) = sums
    return blocks[:place], blocks[place], blocks[place + 1 :]


def is_reduction(block: Any) -> bool:
    """Whether a block sums over one of its axes."""
    return any(int(axis.iter_type) == REDUCTION for axis in block.iter_vars)
