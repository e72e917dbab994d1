"""One transformer block: layer norm, causal multi-head attention, GELU MLP.

Small enough to be tuned on a CPU in a minute, and made of the parts that large models
spend their time in. Export it with::

    effcompile export examples/transformer_block.py:build --out block.onnx
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class TransformerBlock(nn.Module):
    """Pre-norm block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, *, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens in, tokens out, both of shape (batch, n_tokens, width)."""
        x = x + self.attend(self.attention_norm(x))
        hidden = functional.gelu(self.mlp_in(self.mlp_norm(x)))
        return x + self.mlp_out(hidden)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Causal self-attention over the tokens."""
        batch, n_tokens, width = x.shape
        split = (batch, n_tokens, 3, self.n_heads, width // self.n_heads)
        query, key, value = self.query_key_value(x).view(split).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, n_tokens, width))


def build(
    *, width: int = 256, n_heads: int = 4, n_tokens: int = 128
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The block with seeded weights, and one example input."""
    torch.manual_seed(0)
    module = TransformerBlock(width=width, n_heads=n_heads).eval()
    return module, (torch.randn(1, n_tokens, width),)
