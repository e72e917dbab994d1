"""What attention programs need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.dtypes import HALF
from schedules.workload import Workload

# Output columns that a warpgroup's registers hold.
WIDEST_PART = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionProblem:
    """Attention over (batch, heads, tokens, width), all tensors of one dtype.

    Query ``i`` stands at position ``i + offset`` and may attend keys from ``left`` before it to
    ``right`` after it.

    Attributes:
        batch: Independent sequences.
        heads: Query heads.
        kv_heads: Key and value heads; divides ``heads``.
        queries: Tokens that ask.
        keys: Tokens that are asked.
        width: Of a query and a key.
        value_width: Of a value and the output.
        dtype: ``float16``, ``bfloat16`` or ``float32``.
        scale: Factor on the scores, positive.
        offset: Tokens before the first query.
        left: Reach of the window backwards, ``None`` for no end.
        right: Reach forwards, 0 if causal, ``None`` for no end.
        names: Of query, key, value and output.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    dtype: str
    scale: float
    offset: int
    left: int | None
    right: int | None
    names: tuple[str, str, str, str]

    @property
    def value_part(self) -> int:
        """Columns of the output that a block computes: all of them, or half of very wide ones."""
        return self.value_width if self.value_width <= WIDEST_PART else self.value_width // 2

    @property
    def value_parts(self) -> int:
        """Blocks that share the columns of an output row."""
        return self.value_width // self.value_part

    @property
    def pairs(self) -> int:
        """Query-key pairs of one head that are attended."""
        if self.left is None and self.right is None:
            return self.queries * self.keys
        total = 0
        for query in range(self.queries):
            position = query + self.offset
            first = 0 if self.left is None else max(0, position - self.left)
            end = self.keys if self.right is None else min(self.keys, position + self.right + 1)
            total += max(0, end - first)
        return total


def attention_problem(
    workload: Workload, *, dtypes: tuple[str, ...] = HALF
) -> AttentionProblem | None:
    """The problem behind a workload, ``None`` if it has masks, lengths or other dtypes."""
    attrs = workload.attrs
    if workload.op != "attention" or len(workload.inputs) != 3 or len(workload.outputs) != 1:
        return None
    query, key, value = workload.inputs
    (result,) = workload.outputs
    found = {spec.dtype for spec in (query, key, value, result)}
    plain = (
        len(found) == 1
        and query.dtype in dtypes
        and attrs.get("mask", "none") == "none"
        and not attrs.get("lengths", False)
        and not attrs.get("softcap", 0.0)
        and float(attrs.get("scale", 0.0)) > 0.0
        and all(len(spec.shape) == 4 for spec in (query, key, value, result))
        and min(min(spec.shape) for spec in (query, key, value)) > 0
    )
    if not plain or query.shape[1] % key.shape[1]:
        return None
    reach = int(attrs.get("window_right", -1))
    left = int(attrs.get("window_left", -1))
    causal = bool(attrs.get("causal", False))
    return AttentionProblem(
        batch=query.shape[0],
        heads=query.shape[1],
        kv_heads=key.shape[1],
        queries=query.shape[2],
        keys=key.shape[2],
        width=query.shape[3],
        value_width=value.shape[3],
        dtype=query.dtype,
        scale=float(attrs["scale"]),
        offset=int(attrs.get("offset", 0)),
        left=None if left < 0 else left,
        right=0 if causal else (None if reach < 0 else reach),
        names=(query.name, key.name, value.name, result.name),
    )
