"""The workloads that searches for energy are judged on: matrix products, convolutions, rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from effcompile.bench.single_ops import (
    conv_model,
    layer_norm_model,
    matmul_model,
    softmax_model,
)
from effcompile.frontend.windows import window_of
from schedules.workload import TensorSpec, Workload

if TYPE_CHECKING:
    import onnx

# ONNX's numbers of element types.
_DTYPES = {1: "float32", 10: "float16"}

Model = Callable[[], "onnx.ModelProto"]

_PRODUCTS = {
    # (m, n, k): square, few rows against a layer of a language model, and a long prompt.
    "mm-512": (512, 512, 512),
    "mm-1024": (1024, 1024, 1024),
    "mm-2048": (2048, 2048, 2048),
    "mm-4096": (4096, 4096, 4096),
    "mm-16x4096x4096": (16, 4096, 4096),
    "mm-2048x11008x4096": (2048, 11008, 4096),
    "mv-4096": (1, 4096, 4096),
    "mv-16384x8192": (1, 16384, 8192),
    "mv-8x16384x16384": (8, 16384, 16384),
}

_CONVOLUTIONS = {
    # (input channels, output channels, extent, kernel, stride) of ResNet-50.
    "stem": (3, 64, 224, 7, 2),
    "3x3-56": (64, 64, 56, 3, 1),
    "3x3-28": (128, 128, 28, 3, 1),
    "3x3-14": (256, 256, 14, 3, 1),
    "3x3-7": (512, 512, 7, 3, 1),
    "1x1-56": (64, 256, 56, 1, 1),
    "1x1-14": (1024, 256, 14, 1, 1),
}


def workload_set() -> dict[str, Model]:
    """Name to a function that makes the ONNX model, the most telling first."""
    found: dict[str, Model] = {}
    for name, (m, n, k) in _PRODUCTS.items():
        found[name] = _bound(matmul_model, m, n, k, "float16")
    found["mm-1024-f32"] = _bound(matmul_model, 1024, 1024, 1024, "float32")
    for batch in (1, 16):
        for name, (c, f, extent, kernel, stride) in _CONVOLUTIONS.items():
            found[f"conv-{name}-b{batch}"] = _bound(
                conv_model,
                (batch, c, extent, extent),
                f,
                "float16",
                kernel=kernel,
                stride=stride,
            )
    found["softmax-4096x4096"] = _bound(softmax_model, 4096, 4096, "float32")
    found["layer-norm-4096x4096"] = _bound(layer_norm_model, 4096, 4096, "float16")
    first = (
        *("mm-1024", "mm-2048", "mm-4096", "mm-512", "mv-4096", "mv-16384x8192"),
        *("conv-3x3-28-b16", "conv-3x3-56-b1", "softmax-4096x4096", "layer-norm-4096x4096"),
        *("mm-1024-f32", "mm-16x4096x4096", "mm-2048x11008x4096", "conv-3x3-14-b16"),
    )
    rest = [name for name in found if name not in first]
    return {name: found[name] for name in (*first, *rest)}


def entry_name(name: str) -> str:
    """A workload's name as an entry point's, which is an identifier."""
    return name.replace("-", "_")


def standard_name(workload: Workload) -> str:
    """The name of a workload of the set, found by its shapes; its own name for any other."""
    return _names_by_shapes().get(_shapes(workload.inputs, workload.outputs), workload.name)


@cache
def _names_by_shapes() -> dict[Any, str]:
    found = {}
    for name, make in workload_set().items():
        graph = make().graph
        inputs, outputs = _specs(graph.input), _specs(graph.output)
        found[_shapes(inputs, outputs)] = name
        # What a convolution becomes where channels are put last.
        inputs, outputs = _channels_last(inputs), _channels_last(outputs)
        found[_shapes(inputs, outputs)] = name
        if name.startswith("conv"):
            found[_shapes(_windowed(graph.node[0], inputs, outputs), outputs)] = name
    return found


def _windowed(node: Any, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> list[TensorSpec]:
    """Images and weights, channels last, as they are where few channels become windows."""
    image, weight = inputs
    options = {one.name: one.ints for one in node.attribute}
    window = window_of(
        image.shape,
        weight.shape,
        stride=options["strides"][1],
        left=options["pads"][1],
        n_out=outputs[0].shape[2],
    )
    if window is None:
        return inputs
    return [
        replace(image, shape=(*image.shape[:2], window.width, window.channels)),
        replace(weight, shape=(*weight.shape[:2], window.places, window.channels)),
    ]


def _channels_last(specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    return [
        replace(one, shape=(one.shape[0], *one.shape[2:], one.shape[1]))
        if len(one.shape) == 4
        else one
        for one in specs
    ]


def _specs(values: Iterable[Any]) -> list[TensorSpec]:
    return [
        TensorSpec(
            name=value.name,
            shape=tuple(one.dim_value for one in value.type.tensor_type.shape.dim),
            dtype=_DTYPES[value.type.tensor_type.elem_type],
        )
        for value in values
    ]


def _shapes(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Any:
    return tuple(sorted((one.shape, one.dtype) for one in inputs)), tuple(
        one.shape for one in outputs
    )


def _bound(make: Callable[..., Any], *arguments: Any, **named: Any) -> Model:
    return lambda: make(*arguments, **named)
