"""The kernel families: each may cover a workload with a space of its own."""

from __future__ import annotations

from collections.abc import Callable

from schedules.attention import attention_space
from schedules.attention_decode import attention_decode_space
from schedules.gemv_dequant import gemv_dequant_space
from schedules.knobs import KnobSpace
from schedules.matmul import matmul_space
from schedules.merge import merge_space
from schedules.softmax import softmax_space
from schedules.task import Task

Family = Callable[[Task], KnobSpace | None]

FAMILIES: tuple[Family, ...] = (
    softmax_space,
    attention_decode_space,
    attention_space,
    gemv_dequant_space,
    merge_space,
    matmul_space,
)
"""In order of preference; one that does not cover a task answers ``None``."""


def own_spaces(task: Task) -> list[KnobSpace]:
    """The spaces of all families that cover a task."""
    found = (family(task) for family in FAMILIES)
    return [space for space in found if space is not None]
