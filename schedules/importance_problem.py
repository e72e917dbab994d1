"""What programs of the importance of keys need to know of a workload.

``importance[b, j]`` is the mean over query heads ``h`` of
``softmax_j(scale * query[b, h, last] . key[b, g, j])``, where ``g`` is the key head of ``h``: how
FrameFusion ranks the tokens that it prunes. Softmax is over all keys; the result is float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from schedules.dtypes import HALF
from schedules.workload import Workload

OP = "last_row_importance"
WIDEST = 256
MOST_HEADS_OF_A_KEY_HEAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceProblem:
    """Queries (batch, heads, queries, width), keys (batch, kv_heads, keys, width).

    Attributes:
        batch: Sequences.
        heads: Query heads.
        kv_heads: Key heads; divides ``heads``.
        queries: Tokens that ask, of which the last one counts.
        keys: Tokens that are ranked.
        width: Of a query and a key, a multiple of 8.
        dtype: ``float16`` or ``bfloat16``.
        scale: Factor on the scores.
        names: Of query, key and result.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    dtype: str
    scale: float
    names: tuple[str, str, str]


def importance_problem(workload: Workload) -> ImportanceProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != OP:
        return None
    query, key = workload.inputs
    (result,) = workload.outputs
    batch, heads, queries, width = query.shape
    kv_heads, keys = key.shape[1:3]
    if query.dtype not in HALF or key.dtype != query.dtype or width % 8 or width > WIDEST:
        return None
    if heads // kv_heads > MOST_HEADS_OF_A_KEY_HEAD:
        return None
    return ImportanceProblem(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        width=width,
        dtype=query.dtype,
        scale=float(workload.attrs["scale"]),
        names=(query.name, key.name, result.name),
    )
