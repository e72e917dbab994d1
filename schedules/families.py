"""The kernel families: each may cover a workload with a space of its own."""

from __future__ import annotations

from collections.abc import Callable

from schedules.attention import attention_space
from schedules.attention_decode import attention_decode_space
from schedules.attention_mma import attention_mma_space
from schedules.attention_simt import attention_simt_space
from schedules.chain_segments import chain_segments_space
from schedules.conv import conv_space
from schedules.conv_windows import conv_windows_space
from schedules.elementwise import elementwise_space
from schedules.gemm_dequant import gemm_dequant_space
from schedules.gemm_fused import gemm_fused_space
from schedules.gemv_dequant import gemv_dequant_space
from schedules.head_norm import head_norm_space
from schedules.headwise_attention import headwise_space
from schedules.importance import importance_space
from schedules.integer_softmax import integer_softmax_space
from schedules.knobs import KnobSpace
from schedules.masked_attention import masked_attention_space
from schedules.matmul import matmul_space
from schedules.matmul_mma import matmul_mma_space
from schedules.matmul_rows import matmul_rows_space
from schedules.matmul_simt import matmul_simt_space
from schedules.merge import merge_space
from schedules.row_norm import row_norm_space
from schedules.softmax import softmax_space
from schedules.task import Task
from schedules.top_rows import top_rows_space

Family = Callable[[Task], KnobSpace | None]

FAMILIES: tuple[Family, ...] = (
    softmax_space,
    integer_softmax_space,
    attention_decode_space,
    attention_space,
    masked_attention_space,
    attention_mma_space,
    attention_simt_space,
    headwise_space,
    importance_space,
    gemv_dequant_space,
    gemm_dequant_space,
    gemm_fused_space,
    merge_space,
    row_norm_space,
    head_norm_space,
    chain_segments_space,
    top_rows_space,
    elementwise_space,
    conv_windows_space,
    conv_space,
    matmul_rows_space,
    matmul_space,
    matmul_mma_space,
    matmul_simt_space,
)
"""In order of preference; one that does not cover a task answers ``None``."""


SUPERSEDED = {
    "attention_mma": ("attention", "attention_masked"),
    "conv": ("conv_windows",),
    "matmul_mma": ("matmul",),
}
"""Spaces that are not worth a trial where one of some others covers the task."""


def own_spaces(task: Task) -> list[KnobSpace]:
    """The spaces of all families that cover a task."""
    found = (family(task) for family in FAMILIES)
    return [space for space in found if space is not None]
