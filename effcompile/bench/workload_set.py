"""The workloads that searches for energy are judged on: matrix products, convolutions, rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from effcompile.bench.single_ops import (
    conv_model,
    layer_norm_model,
    matmul_model,
    softmax_model,
)

if TYPE_CHECKING:
    import onnx

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
    first = ("mm-1024", "mv-4096", "conv-3x3-28-b16", "softmax-4096x4096", "layer-norm-4096x4096")
    rest = [name for name in found if name not in first]
    return {name: found[name] for name in (*first, *rest)}


def _bound(make: Callable[..., Any], *arguments: Any, **named: Any) -> Model:
    return lambda: make(*arguments, **named)
