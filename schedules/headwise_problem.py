"""What programs of head-wise arrow attention need to know of a workload.

Queries and keys are the same tokens: ``image_tokens`` and ``text_tokens``, in either order. The
mask is one of blocks of ``GRAIN`` rows and ``GRAIN`` keys, so it does not depend on a schedule:

* a row block or key block that holds a text token is a text block; text rows see all keys, and
  all rows see text keys;
* image row block ``m`` of an arrow head with half-width ``w`` tokens sees the image key blocks
  ``n`` with ``|n - m| <= ceil(w / GRAIN)``; ``w = 0`` leaves the diagonal;
* full heads see everything, skipped heads give their rows of the cache, or zeros without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schedules.attention_problem import AttentionProblem, attention_problem
from schedules.workload import Workload

GRAIN = 64
FULL, ARROW, SKIP = 0, 1, 2
OP = "headwise_attention"

Mode = tuple[int, int]
"""Kind of a head, and its half-width in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadwiseProblem:
    """Attention and its mask.

    Attributes:
        dense: The same attention without a mask.
        image_tokens: Their number.
        text_tokens: Their number.
        text_first: Whether text comes before the image.
        modes: Of every head; what a plan is expected to hold where it comes at run time.
        modes_name: Buffer of the modes.
        cache_name: Buffer of the rows of skipped heads, ``None`` for zeros.
    """

    dense: AttentionProblem
    image_tokens: int
    text_tokens: int
    text_first: bool
    modes: tuple[Mode, ...]
    modes_name: str
    cache_name: str | None

    @property
    def n_blocks(self) -> int:
        """Blocks of rows, and of keys."""
        return -(-self.dense.queries // GRAIN)

    @property
    def text_blocks(self) -> range:
        """Blocks that hold text."""
        return text_blocks(self.image_tokens, self.text_tokens, text_first=self.text_first)

    @property
    def pairs(self) -> int:
        """Query-key pairs of all heads of one sequence that are attended."""
        tokens = self.image_tokens, self.text_tokens
        return sum(attended_pairs(mode, *tokens, text_first=self.text_first) for mode in self.modes)


def attended_pairs(mode: Mode, image_tokens: int, text_tokens: int, *, text_first: bool) -> int:
    """Query-key pairs that one head attends."""
    kind, half_width = mode
    n_tokens = image_tokens + text_tokens
    if kind == SKIP:
        return 0
    if kind != ARROW:
        return n_tokens * n_tokens
    n_blocks, reach = -(-n_tokens // GRAIN), -(-half_width // GRAIN)
    text = text_blocks(image_tokens, text_tokens, text_first=text_first)
    sizes = [min(GRAIN, n_tokens - GRAIN * block) for block in range(n_blocks)]
    text_keys = sum(sizes[block] for block in text)
    total = 0
    for block in range(n_blocks):
        near = range(max(0, block - reach), min(n_blocks, block + reach + 1))
        seen = text_keys + sum(sizes[other] for other in near if other not in text)
        total += sizes[block] * (n_tokens if block in text else seen)
    return total


def text_blocks(image_tokens: int, text_tokens: int, *, text_first: bool) -> range:
    """Blocks that hold a text token."""
    if text_tokens == 0:
        return range(0)
    if text_first:
        return range(-(-text_tokens // GRAIN))
    return range(image_tokens // GRAIN, -(-(image_tokens + text_tokens) // GRAIN))


def modes_text(modes: tuple[Mode, ...]) -> str:
    """As a workload's attributes hold them: ``kind:half-width`` of every head."""
    return " ".join(f"{kind}:{width}" for kind, width in modes)


def modes_of(workload: Workload) -> tuple[Mode, ...]:
    """The modes that a workload was made for; where it knows none, arrows of an eighth."""
    text = str(workload.attrs["modes"])
    if not text:
        width = int(workload.attrs["image_tokens"]) // 16
        return ((ARROW, width),) * workload.inputs[0].shape[1]
    pairs = (pair.split(":") for pair in text.split())
    return tuple((int(kind), int(width)) for kind, width in pairs)


def headwise_problem(workload: Workload) -> HeadwiseProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != OP:
        return None
    plain = replace(workload, op="attention", inputs=workload.inputs[:3])
    dense = attention_problem(plain)
    if dense is None:
        return None
    _, _, _, modes, *cache = workload.inputs
    return HeadwiseProblem(
        dense=dense,
        image_tokens=int(workload.attrs["image_tokens"]),
        text_tokens=int(workload.attrs["text_tokens"]),
        text_first=bool(workload.attrs["text_first"]),
        modes=modes_of(workload),
        modes_name=modes.name,
        cache_name=cache[0].name if cache else None,
    )
