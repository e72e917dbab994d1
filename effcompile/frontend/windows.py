"""Shapes of images with few channels, once all places of a row of the kernel count as channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from schedules.conv_problem import ALIGNED_ELEMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What zeros make of images and weights, channels last.

    Attributes:
        channels: Of a pixel.
        places: Of a row of the kernel.
        width: Of an image.
    """

    channels: int
    places: int
    width: int


def window_of(
    image: Sequence[int], weight: Sequence[int], *, stride: int, left: int, n_out: int
) -> Window | None:
    """The window of a convolution; ``None`` if its channels need none, or it cannot have one.

    Args:
        image: Shape of the images, channels last.
        weight: Of the weights, likewise.
        stride: Along a row.
        left: Zeros in front of a row.
        n_out: Pixels of a row of the output.
    """
    if image[3] % ALIGNED_ELEMENTS == 0:
        return None
    channels = _aligned(image[3], stride)
    places = _aligned(weight[2], channels)
    least = max((n_out - 1) * stride + places, left + image[2])
    width = _aligned(least, channels)
    if (width - places) // stride + 1 != n_out:
        return None
    return Window(channels=channels, places=places, width=width)


def _aligned(least: int, factor: int) -> int:
    """The first number from ``least`` on whose product with ``factor`` is whole pieces."""
    return next(n for n in count(least) if n * factor % ALIGNED_ELEMENTS == 0)
