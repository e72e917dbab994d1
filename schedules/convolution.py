"""What a convolution is: its two directions, and the product of pixels and filters behind it."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.contraction import Contraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of a convolution, along the height or the width.

    Attributes:
        extent: Of the images, in pixels, without padding.
        out: Of the output.
        kernel: Places of the kernel.
        stride: Pixels between neighbours of the output.
        dilation: Pixels between neighbours of the kernel.
        padding: Zeros before the first pixel; those behind the last one follow.
    """

    extent: int
    out: int
    kernel: int
    stride: int
    dilation: int
    padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution with its ending.

    Attributes:
        images: How many.
        height: Along the rows of pixels.
        width: Along the pixels of a row; neighbours in memory but for the channels.
        channels: Of the images; neighbours in memory.
        pixel_step: Elements from a pixel to the next of its row.
        line_step: Elements from a row of pixels to the next.
        product: Pixels times filters: the sums' extents, dtype, buffers and ending. Its operands
            have the steps of a kernel with one place.
    """

    images: int
    height: Direction
    width: Direction
    channels: int
    pixel_step: int
    line_step: int
    product: Contraction

    @property
    def filters(self) -> int:
        """Channels of the output."""
        return self.product.n

    @property
    def places(self) -> int:
        """Places of the kernel."""
        return self.height.kernel * self.width.kernel
