"""What attention of a few queries over many keys needs to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass, replace

from schedules.attention_problem import AttentionProblem, attention_problem
from schedules.dtypes import HALF
from schedules.masked_problem import PACKED, TILES
from schedules.workload import TensorSpec, Workload

LENGTH_DTYPES = ("int32", "int64")
MASK_DTYPES = ("bool", "float16", "bfloat16", "float32")
MOST_QUERIES = 32
MOST_ROWS = 128
WIDEST = 256
TABLE_DTYPE = "int32"
PAGED_OP = "paged_attention"
# Keys of a product: pages hold whole multiples.
PAGE_GRAIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Keys and values of a sequence in pages that lie anywhere.

    Attributes:
        table: The page that holds the keys from ``i * tokens``, int32, shape (batch, pages of
            a sequence).
        tokens: Of one page.
        n_pages: In all.
    """

    table: TensorSpec
    tokens: int
    n_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeProblem:
    """Attention in which the query heads of a key head ask for few rows together.

    Attributes:
        plain: The same attention without mask, lengths, soft cap and pages.
        mask: Added to the scores, or true where a key may be attended; ``None`` for none.
        lengths: Valid keys per sequence, ``None`` if all are.
        at_end: Whether queries are the last of the valid keys.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
        patterns: Of a mask in blocks (:mod:`schedules.mask_tiles`), whose index ``mask`` is then.
        starts: Of packed sequences and the end of the last one, ``None`` if there is one sequence.
        pages: Where keys and values are, (pages, key heads, tokens of a page, width) each;
            ``None`` if they are (batch, key heads, keys, width).
    """

    plain: AttentionProblem
    mask: TensorSpec | None
    lengths: TensorSpec | None
    at_end: bool
    softcap: float
    patterns: TensorSpec | None = None
    starts: TensorSpec | None = None
    pages: Pages | None = None

    @property
    def group_rows(self) -> int:
        """Query rows that share a key head."""
        return self.plain.heads // self.plain.kv_heads * self.plain.queries

    @property
    def groups(self) -> int:
        """Key heads of all sequences."""
        return self.plain.batch * self.plain.kv_heads

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """Elements between neighbours along batch, head, query and key; 0 where one serves all."""
        if self.mask is None:
            return (0, 0, 0, 0)
        strides, step = [], 1
        for extent in reversed(self.mask.shape):
            strides.append(0 if extent == 1 else step)
            step *= extent
        return tuple(reversed(strides))


def size_constants(problem: DecodeProblem) -> dict[str, int]:
    """What device code of attention with masks and lengths calls its sizes and forms."""
    plain = problem.plain
    strides = zip(("BATCH", "HEAD", "QUERY", "KEY"), problem.mask_strides, strict=True)
    return {
        "HEADS": plain.heads,
        "KV_HEADS": plain.kv_heads,
        "QUERIES": plain.queries,
        "KEYS": plain.keys,
        "WIDTH": plain.width,
        "VALUE_WIDTH": plain.value_width,
        "OFFSET": plain.offset,
        "LEFT": -1 if plain.left is None else plain.left,
        "RIGHT": -1 if plain.right is None else plain.right,
        "HAS_MASK": int(problem.mask is not None and problem.patterns is None),
        "BLOCKED": int(problem.patterns is not None),
        **{f"MASK_{name}": stride for name, stride in strides},
        "HAS_LENGTHS": int(problem.lengths is not None),
        "AT_END": int(problem.at_end and problem.lengths is not None),
        "CAPPED": int(bool(problem.softcap)),
    }


def decode_problem(workload: Workload) -> DecodeProblem | None:
    """The problem behind a workload, ``None`` if it is none of few queries."""
    if workload.op == PAGED_OP:
        whole = extended_problem(in_one_piece(workload))
        problem = whole and replace(whole, pages=_pages(workload))
    else:
        problem = extended_problem(workload)
    return problem if problem is not None and _is_served(problem) else None


def extended_problem(workload: Workload, *, dtypes: tuple[str, ...] = HALF) -> DecodeProblem | None:
    """Attention with mask, lengths and soft cap, whatever its sizes; ``None`` if it is none."""
    attrs = workload.attrs
    if workload.op != "attention" or len(workload.inputs) < 3:
        return None
    kind = attrs.get("mask", "none")
    mask, lengths = _extras(workload)
    expected = 3 + (mask is not None) + (lengths is not None) + (kind == TILES)
    bare = replace(
        workload,
        inputs=workload.inputs[:3],
        attrs={**attrs, "mask": "none", "lengths": False, "softcap": 0.0},
    )
    plain = attention_problem(bare, dtypes=dtypes)
    if plain is None or len(workload.inputs) != expected:
        return None
    special = kind in (TILES, PACKED)
    if mask is not None and not special and not _is_mask(mask):
        return None
    if lengths is not None and (special or lengths.dtype not in LENGTH_DTYPES):
        return None
    return DecodeProblem(
        plain=plain,
        mask=None if kind == PACKED else mask,
        lengths=lengths,
        at_end=bool(attrs.get("at_end", False)),
        softcap=float(attrs.get("softcap", 0.0)),
        patterns=workload.inputs[4] if kind == TILES else None,
        starts=mask if kind == PACKED else None,
    )


def _is_mask(spec: TensorSpec) -> bool:
    return spec.dtype in MASK_DTYPES and len(spec.shape) == 4


def _pages(workload: Workload) -> Pages:
    key, table = workload.inputs[1], workload.inputs[3]
    return Pages(table=table, tokens=key.shape[2], n_pages=key.shape[0])


def in_one_piece(workload: Workload) -> Workload:
    """The ``attention`` that a ``paged_attention`` stands for: its pages in a row.

    Args:
        workload: Of inputs query, key pages, value pages, table and lengths.
    """
    query, key, value, table, *rest = workload.inputs
    batch, n_pages = table.shape

    def joined(pages: TensorSpec) -> TensorSpec:
        _, heads, tokens, width = pages.shape
        return replace(pages, shape=(batch, heads, n_pages * tokens, width))

    inputs = (query, joined(key), joined(value), *rest)
    return replace(workload, op="attention", inputs=inputs)


def _extras(workload: Workload) -> tuple[TensorSpec | None, TensorSpec | None]:
    rest = workload.inputs[3:]
    has_mask = workload.attrs.get("mask", "none") != "none"
    has_lengths = bool(workload.attrs.get("lengths", False))
    mask = rest[0] if has_mask and rest else None
    return mask, rest[-1] if has_lengths and rest else None


def _is_served(problem: DecodeProblem) -> bool:
    """Whether queries are few, one sequence, in pieces of 16 bytes, under no mask in blocks."""
    plain, pages = problem.plain, problem.pages
    widths = (plain.width, plain.value_width)
    return (
        all(width % 8 == 0 and width <= WIDEST for width in widths)
        and plain.queries <= MOST_QUERIES
        and problem.patterns is None
        and problem.starts is None
        and problem.group_rows <= MOST_ROWS
        and (pages is None or pages.tokens % PAGE_GRAIN == 0)
        and (pages is None or pages.table.dtype == TABLE_DTYPE)
    )
