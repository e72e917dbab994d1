"""Convolutions of a residual network against cuDNN, in both layouts.

Of each there are two cases. In ``nhwc``, the images' channels lie next to each other on both sides,
as inside of a network that keeps them so; the model says so by transposes, of which no kernel is
left. In ``nchw``, images come and go as ONNX has them, and whatever it takes to transpose them is
part of the time, of ours and of cuDNN's. Weights are constants, in whatever order each likes best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors

SEED = 7
TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A square convolution in float16, padded so that the stride alone shrinks the image.

    Attributes:
        images: How many.
        extent: Pixels of an image in either direction.
        channels: Of an image.
        filters: Channels of the output.
        kernel: Places in either direction.
        stride: In both directions.
        layout: Of images, on both sides.
    """

    images: int
    extent: int
    channels: int
    filters: int
    kernel: int = 3
    stride: int = 1
    layout: Literal["nhwc", "nchw"] = "nhwc"

    @property
    def name(self) -> str:
        """Distinct among the cases."""
        size = f"{self.extent}x{self.channels}"
        kind = f"{self.kernel}x{self.kernel}-{size}-{self.filters}-s{self.stride}"
        return f"conv-{kind}-b{self.images}-{self.layout}"

    def shape(self, channels: int, extent: int) -> list[int]:
        """Of images of so many channels and pixels."""
        if self.layout == "nhwc":
            return [self.images, extent, extent, channels]
        return [self.images, channels, extent, extent]

    @property
    def out_extent(self) -> int:
        """Pixels of the output in either direction."""
        return (self.extent + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1


SHAPES = (
    Convolution(images=16, extent=28, channels=128, filters=128),
    Convolution(images=1, extent=56, channels=64, filters=64),
    Convolution(images=16, extent=14, channels=256, filters=256),
    Convolution(images=16, extent=56, channels=64, filters=64),
    Convolution(images=16, extent=7, channels=512, filters=512),
    Convolution(images=1, extent=28, channels=128, filters=128),
    Convolution(images=1, extent=14, channels=256, filters=256),
    Convolution(images=1, extent=7, channels=512, filters=512),
    Convolution(images=16, extent=224, channels=3, filters=64, kernel=7, stride=2),
    Convolution(images=1, extent=224, channels=3, filters=64, kernel=7, stride=2),
    Convolution(images=16, extent=56, channels=128, filters=128, stride=2),
    Convolution(images=16, extent=56, channels=256, filters=512, kernel=1, stride=2),
    Convolution(images=16, extent=56, channels=64, filters=256, kernel=1),
    Convolution(images=16, extent=14, channels=1024, filters=256, kernel=1),
    Convolution(images=1, extent=56, channels=64, filters=256, kernel=1),
    Convolution(images=1, extent=14, channels=1024, filters=256, kernel=1),
)
"""Layers of ResNet-50."""

FIRST = (SHAPES[0], SHAPES[1], SHAPES[12])
"""Those that are compared with images as ONNX has them, too."""


def cases() -> list[KernelCase]:
    """One case per convolution and layout."""
    first = [replace(one, layout="nchw") for one in FIRST]
    return [_case(one) for one in (*SHAPES, *first)]


def _case(conv: Convolution) -> KernelCase:
    terms = conv.channels * conv.kernel**2
    pixels = conv.images * conv.out_extent**2
    moved = conv.images * conv.extent**2 * conv.channels + (pixels + terms) * conv.filters
    peers: dict[str, Peer] = {f"cuDNN {conv.layout.upper()}": partial(_cudnn, conv)}
    return KernelCase(
        name=conv.name,
        family="conv",
        model=partial(_model, conv),
        inputs=partial(_inputs, conv),
        reference=partial(_reference, conv),
        n_bytes=2 * moved,
        n_flops=2 * pixels * terms * conv.filters,
        tolerance=TOLERANCE,
        peers=peers,
    )


@lru_cache(maxsize=1)
def _weights(conv: Convolution) -> np.ndarray:
    """(filters, channels, kernel, kernel), float16."""
    shape = (conv.filters, conv.channels, conv.kernel, conv.kernel)
    return np.random.default_rng(SEED).standard_normal(shape).astype(np.float16)


def _model(conv: Convolution) -> Any:
    """The convolution as exporters write it, between transposes where the layout says so."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    pads = [conv.kernel // 2] * 4
    strides = [conv.stride] * 2
    last = conv.layout == "nhwc"
    names = ["x_first", "y_first"] if last else ["x", "y"]
    nodes = [helper.make_node("Conv", [names[0], "w"], [names[1]], pads=pads, strides=strides)]
    if last:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["x_first"], perm=TO_FIRST))
        nodes.append(helper.make_node("Transpose", ["y_first"], ["y"], perm=TO_LAST))
    kind = TensorProto.FLOAT16
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", kind, conv.shape(conv.channels, conv.extent))],
        [helper.make_tensor_value_info("y", kind, conv.shape(conv.filters, conv.out_extent))],
        initializer=[numpy_helper.from_array(_weights(conv), "w")],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _inputs(conv: Convolution, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    shape = conv.shape(conv.channels, conv.extent)
    return [torch.randn(shape, device="cuda", dtype=torch.float16, generator=generator)]


def _cudnn(conv: Convolution, inputs: Tensors) -> Any:
    """torch lets cuDNN choose its algorithm by trying all of them."""
    import torch

    torch.backends.cudnn.benchmark = True
    first = conv.layout == "nchw"
    memory = torch.contiguous_format if first else torch.channels_last
    image = inputs[0] if first else inputs[0].permute(TO_FIRST)
    weight = torch.from_numpy(_weights(conv)).cuda().to(memory_format=memory)
    options = {"stride": conv.stride, "padding": conv.kernel // 2}

    def launch() -> Any:
        out = torch.nn.functional.conv2d(image, weight, **options)
        return out if first else out.permute(TO_LAST)

    return launch


def _reference(conv: Convolution, inputs: Tensors) -> Tensors:
    import torch

    first = conv.layout == "nchw"
    image = inputs[0] if first else inputs[0].permute(TO_FIRST)
    weight = torch.from_numpy(_weights(conv)).cuda()
    out = torch.nn.functional.conv2d(
        image.double(), weight.double(), stride=conv.stride, padding=conv.kernel // 2
    )
    return [out if first else out.permute(TO_LAST)]
