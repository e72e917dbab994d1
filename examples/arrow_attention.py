"""Joint attention over image and text in which every head has a mode of its own.

    effcompile export examples/arrow_attention.py:build -o arrow.onnx

Modes are a buffer, so they become an initialiser: the tuner measures this very mixture. As an input
of ``forward`` they could change with every call of the compiled model.
"""

import torch
from torch import nn

from effcompile.export import custom_op

FULL, ARROW, SKIP = 0, 1, 2
BLOCK = 64


class ArrowAttention(nn.Module):
    """Image tokens first; arrows see near image blocks and all text.

    Args:
        modes: Kind and half-width in tokens of every head.
        text_tokens: Tokens at the end that see everything and that everyone sees.
    """

    def __init__(self, modes: list[tuple[int, int]], text_tokens: int) -> None:
        super().__init__()
        self.text_tokens = text_tokens
        self.register_buffer("modes", torch.tensor(modes, dtype=torch.int32))

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """All of shape (batch, heads, tokens, width); skipped heads give zeros."""
        return custom_op(
            "HeadwiseAttention",
            (query, key, value, self.modes),
            eager=self.eager,
            attrs={"text_tokens": self.text_tokens, "order": "image_first"},
        )

    def eager(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, modes: torch.Tensor
    ) -> torch.Tensor:
        """The same by an explicit mask."""
        n_tokens = query.shape[2]
        block = torch.arange(n_tokens, device=query.device) // BLOCK
        text = block >= (n_tokens - self.text_tokens) // BLOCK
        kind = modes[:, 0, None, None]
        reach = (modes[:, 1, None, None] + BLOCK - 1) // BLOCK
        near = (block[:, None] - block[None, :]).abs() <= reach
        seen = (kind != ARROW) | near | text[:, None] | text[None, :]
        scores = query.float() @ key.float().transpose(2, 3) * query.shape[3] ** -0.5
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
        return ((weights * (kind != SKIP)) @ value.float()).to(query.dtype)


def build() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A layer of Stable Diffusion 3 at 1024 x 1024: 4096 image and 333 text tokens, 24 heads."""
    modes = [(FULL, 0)] * 4 + [(ARROW, 256)] * 14 + [(ARROW, 64)] * 6
    tokens = [torch.randn(1, 24, 4429, 64, dtype=torch.float16) for _ in range(3)]
    return ArrowAttention(modes, text_tokens=333), tuple(tokens)
