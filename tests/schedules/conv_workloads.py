"""Convolutions, channels last, as the programs that fusion would make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules import _tvm
from schedules.conv import ConvSpace, conv_space
from schedules.programs import workload_of
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One convolution of square kernel.

    Attributes:
        images: How many.
        height: Of an image.
        width: Of an image.
        channels: Of an image.
        filters: Channels of the output.
        kernel: Places in one direction.
        stride: In both directions.
        dilation: In both directions.
        padding: Zeros at the top, left, bottom and right.
        dtype: Of operands and output.
        ending: ``cast``, ``float32`` or ``residual`` (bias, residual, ReLU).
        groups: Of channels.
    """

    images: int = 1
    height: int
    width: int
    channels: int
    filters: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dtype: str = "float16"
    ending: str = "cast"
    groups: int = 1

    @property
    def out(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        reach = (self.kernel - 1) * self.dilation + 1
        top, left, bottom, right = self.padding
        return (
            self.images,
            (self.height + top + bottom - reach) // self.stride + 1,
            (self.width + left + right - reach) // self.stride + 1,
            self.filters,
        )

    def shapes(self) -> list[tuple[int, ...]]:
        """Inputs in order."""
        shapes: list[tuple[int, ...]] = [
            (self.images, self.height, self.width, self.channels),
            (self.filters, self.kernel, self.kernel, self.channels // self.groups),
        ]
        if self.ending == "residual":
            shapes += [(1, 1, 1, self.filters), self.out]
        return shapes


STEM = Conv(
    images=16,
    height=224,
    width=230,
    channels=4,
    filters=64,
    kernel=8,
    stride=2,
    padding=(3, 0, 4, 0),
)
"""The first layer of ResNet-50, its few channels padded to windows."""


def conv_workload(conv: Conv) -> Workload:
    """See :class:`Conv`."""
    _tvm.load()
    from tvm import te, topi

    x, w, *more = [
        te.placeholder(shape, conv.dtype, name=f"X{i}") for i, shape in enumerate(conv.shapes())
    ]
    out = topi.nn.conv(
        x,
        w,
        (conv.stride, conv.stride),
        conv.padding,
        (conv.dilation, conv.dilation),
        conv.groups,
        "NHWC",
        "OHWI",
        "float32",
    )
    if conv.ending != "float32":
        out = topi.cast(out, conv.dtype)
    if conv.ending == "residual":
        out = topi.nn.relu(topi.add(topi.add(out, more[0]), more[1]))
    return workload_of(te.create_prim_func([x, w, *more, out]), name=repr(conv))


def conv_space_of(conv: Conv, target: Target | None = None) -> ConvSpace:
    """The family's space of a convolution."""
    space = conv_space(Task(workload=conv_workload(conv), target=target or known_target("h100")))
    assert space is not None, conv
    return space


def conv_expected(conv: Conv, inputs: list[Any]) -> Any:
    """The convolution in float64 with NumPy."""
    x, w, *more = [np.asarray(each, dtype=np.float64) for each in inputs]
    top, left, bottom, right = conv.padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, height, width, _ = conv.out
    out = np.zeros(conv.out)
    for r in range(conv.kernel):
        for s in range(conv.kernel):
            y0, x0 = r * conv.dilation, s * conv.dilation
            rows = x[:, y0 : y0 + (height - 1) * conv.stride + 1 : conv.stride]
            out += rows[:, :, x0 : x0 + (width - 1) * conv.stride + 1 : conv.stride] @ w[:, r, s].T
    if conv.ending == "residual":
        out = np.maximum(out + more[0] + more[1], 0.0)
    return out
