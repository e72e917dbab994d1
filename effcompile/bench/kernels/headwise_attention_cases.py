"""Head-wise arrow attention (DiTFastAttnV2), against FlexAttention and masked SDPA.

All compute the same mask, that of blocks of 64 rows and 64 keys. FlexAttention gets it as a block
mask of 128 by 128 and evaluates it element by element inside partial blocks; making that mask and
compiling the kernel are not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors
from effcompile.bench.single_ops import headwise_attention_model
from schedules.headwise_problem import (
    ARROW,
    FULL,
    GRAIN,
    SKIP,
    Mode,
    attended_pairs,
    text_blocks,
)

COMPARED_ROWS = 64
N_HEADS = 24


@dataclass(frozen=True, slots=True)
class HeadwiseShape:
    """What a case is: a name, tokens, order, width, modes of all heads."""

    name: str
    image: int
    text: int
    text_first: bool
    width: int
    modes: tuple[Mode, ...]
    dtype: str = "float16"

    @property
    def tokens(self) -> int:
        """Of image and text."""
        return self.image + self.text

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of query, key, value and output."""
        return (1, len(self.modes), self.tokens, self.width)

    @property
    def n_pairs(self) -> int:
        """Query-key pairs that are attended."""
        tokens = self.image, self.text
        return sum(attended_pairs(mode, *tokens, text_first=self.text_first) for mode in self.modes)


def _arrows(name: str, image: int, text: int, width: int, part: int) -> HeadwiseShape:
    """All heads arrows of 1/part of the image in total width; SD3 puts the image first."""
    modes = ((ARROW, image // (2 * part)),) * N_HEADS
    return HeadwiseShape(f"headwise-{name}-1of{part}", image, text, name != "sd3-1k", width, modes)


def _mixed(image: int, text: int, width: int) -> HeadwiseShape:
    """A plan's mixture: 4 full heads, 8 arrows of 1/8, 6 of 1/16, 6 skipped ones, interleaved."""
    kinds = [(FULL, 0)] * 4 + [(ARROW, image // 16)] * 8 + [(ARROW, image // 32)] * 6
    kinds += [(SKIP, 0)] * 6
    modes = tuple(kinds[7 * head % N_HEADS] for head in range(N_HEADS))
    return HeadwiseShape("headwise-flux-1k-mixed", image, text, True, width, modes)


SHAPES = (
    _arrows("sd3-1k", 4096, 333, 64, 8),
    _arrows("flux-2k", 16384, 512, 128, 8),
    _arrows("flux-2k", 16384, 512, 128, 16),
    _arrows("flux-2k", 16384, 512, 128, 32),
    _mixed(4096, 512, 128),
)


def cases() -> list[KernelCase]:
    """One case per shape."""
    return [_case(shape) for shape in SHAPES]


def _case(shape: HeadwiseShape) -> KernelCase:
    n_elements = len(shape.modes) * shape.tokens * shape.width
    return KernelCase(
        name=shape.name,
        family="headwise_attention",
        model=partial(
            headwise_attention_model,
            shape.shape,
            shape.shape,
            shape.dtype,
            modes=shape.modes,
            text_tokens=shape.text,
            order="text_first" if shape.text_first else "image_first",
        ),
        inputs=partial(_inputs, shape),
        reference=_reference(shape),
        sample=lambda outputs: [outputs[0][..., _compared(shape), :]],
        n_bytes=2 * 4 * n_elements,
        n_flops=4 * shape.n_pairs * shape.width,
        tolerance=5e-3,
        peers={"FlexAttention": _flex(shape), "torch SDPA, mask": _masked(shape)},
    )


def _inputs(shape: HeadwiseShape, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    kind = getattr(torch, shape.dtype)
    return [
        torch.randn(shape.shape, device="cuda", dtype=kind, generator=generator) for _ in range(3)
    ]


def _compared(shape: HeadwiseShape) -> Sequence[int]:
    """First, middle and last rows of every head."""
    middle, last = shape.tokens // 2, shape.tokens - COMPARED_ROWS
    return [start + row for start in (0, middle, last) for row in range(COMPARED_ROWS)]


def _allowed(shape: HeadwiseShape) -> Callable[..., Any]:
    """Whether a head of a kind and reach lets a row see a key; all of them tensors."""
    text = text_blocks(shape.image, shape.text, text_first=shape.text_first)

    def allowed(kind: Any, reach: Any, row: Any, key: Any) -> Any:
        m, n = row // GRAIN, key // GRAIN
        near = (m - n <= reach) & (n - m <= reach)
        of_text = ((m >= text.start) & (m < text.stop)) | ((n >= text.start) & (n < text.stop))
        return (kind != SKIP) & ((kind != ARROW) | near | of_text)

    return allowed


def _by_head(shape: HeadwiseShape) -> tuple[Any, Any]:
    """Kind and reach in blocks of every head."""
    import torch

    kinds = torch.tensor([kind for kind, _ in shape.modes], device="cuda")
    reach = torch.tensor([-(-width // GRAIN) for _, width in shape.modes], device="cuda")
    return kinds, reach


def _flex(shape: HeadwiseShape) -> Peer:
    def prepare(inputs: Tensors) -> Callable[[], Any]:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        allowed = _allowed(shape)
        kinds, reach = _by_head(shape)
        is_uniform = len(set(shape.modes)) == 1
        kind, blocks = shape.modes[0][0], -(-shape.modes[0][1] // GRAIN)

        def of_head(_batch: Any, head: Any, row: Any, key: Any) -> Any:
            return allowed(kinds[head], reach[head], row, key)

        def of_all(_batch: Any, _head: Any, row: Any, key: Any) -> Any:
            return allowed(kind, blocks, row, key)

        mask_mod = of_all if is_uniform else of_head
        n_heads = None if is_uniform else len(shape.modes)
        mask = create_block_mask(mask_mod, None, n_heads, shape.tokens, shape.tokens, "cuda")
        compiled = torch.compile(flex_attention, dynamic=False)
        compiled(*inputs, block_mask=mask)
        return lambda: compiled(*inputs, block_mask=mask)

    return prepare


def _masked(shape: HeadwiseShape) -> Peer:
    def prepare(inputs: Tensors) -> Callable[[], Any]:
        from torch.nn.functional import scaled_dot_product_attention

        modes = list(dict.fromkeys(shape.modes))
        heads = range(1 if len(modes) == 1 else len(shape.modes))
        mask = _dense_mask(shape, heads)
        query, key, value = inputs
        return lambda: scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return prepare


def _dense_mask(shape: HeadwiseShape, heads: Sequence[int]) -> Any:
    """Boolean, shape (1, heads, tokens, tokens)."""
    import torch

    kinds, reach = _by_head(shape)
    place = torch.arange(shape.tokens, device="cuda")
    allowed = _allowed(shape)
    rows = [allowed(kinds[h], reach[h], place[:, None], place[None, :]) for h in heads]
    return torch.stack(rows)[None]


def _reference(shape: HeadwiseShape) -> Callable[[Tensors], Tensors]:
    def reference(inputs: Tensors) -> Tensors:
        import torch

        query, key, value = inputs
        rows = torch.tensor(_compared(shape), device="cuda")
        keys = torch.arange(shape.tokens, device="cuda")
        kinds, reach = _by_head(shape)
        allowed = _allowed(shape)
        wanted = torch.zeros(
            (1, len(shape.modes), len(rows), shape.width), dtype=torch.float64, device="cuda"
        )
        for h in range(len(shape.modes)):
            scores = query[0, h, rows].double() @ key[0, h].double().T * shape.width**-0.5
            seen = allowed(kinds[h], reach[h], rows[:, None], keys[None, :])
            weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
            wanted[0, h] = weights.nan_to_num() @ value[0, h].double()
        return [wanted]

    return reference
