"""A small residual convolutional network for images of 32 by 32 pixels.

Convolutions with batch normalisation, a residual connection, pooling and a classifier::

    effcompile export examples/conv_net.py:build --out conv.onnx
"""

from __future__ import annotations

import torch
from torch import nn


class ConvolutionUnit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, n_in: int, n_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, images out, layout NCHW."""
        return torch.relu(self.norm(self.convolution(x)))


class ConvNet(nn.Module):
    """Stem, residual unit, strided unit, global pooling, linear classifier."""

    def __init__(self, *, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.stem = ConvolutionUnit(3, n_channels)
        self.residual = nn.Sequential(
            ConvolutionUnit(n_channels, n_channels), ConvolutionUnit(n_channels, n_channels)
        )
        self.down = ConvolutionUnit(n_channels, 2 * n_channels, stride=2)
        self.classifier = nn.Linear(2 * n_channels, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of shape (batch, n_classes) for images of shape (batch, 3, H, W)."""
        x = self.stem(images)
        x = self.down(x + self.residual(x))
        return self.classifier(x.mean(dim=(2, 3)))


def build(
    *, n_channels: int = 32, n_classes: int = 10, size: int = 32
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The network with seeded weights and batch statistics, and one example image."""
    torch.manual_seed(0)
    module = ConvNet(n_channels=n_channels, n_classes=n_classes)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            # Fresh statistics (mean 0, variance 1) would hide a wrongly folded norm.
            nn.init.uniform_(child.running_mean, -0.5, 0.5)
            nn.init.uniform_(child.running_var, 0.5, 2.0)
    return module.eval(), (torch.randn(1, 3, size, size),)
