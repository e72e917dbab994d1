"""Products with quantised matrices, of few rows mostly, against libraries and Inductor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, inductor
from effcompile.bench.kernels.quantised_peers import Layer, gemlite, marlin
from schedules.packing import pack_stream

SEED = 7
INNER_TILES = 8
# Of the matrix in float64 at a time, for the reference.
PART_ELEMENTS = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A symmetric quantised linear layer on some rows.

    Attributes:
        bits: Of a weight.
        n_columns: Output features.
        depth: Input features.
        rows: Rows of the activations.
        group: Weights that share a scale.
        dtype: Of activations, scales and output.
        seed: Of the weights.
    """

    bits: int
    n_columns: int
    depth: int
    rows: int = 1
    group: int = 128
    dtype: str = "bfloat16"
    seed: int = SEED

    @property
    def name(self) -> str:
        """Distinct among the cases."""
        size = f"{self.n_columns}x{self.depth}"
        return f"w{self.bits}-g{self.group}-{size}-rows{self.rows}-{self.dtype}"

    @property
    def n_bytes(self) -> int:
        """Weights, scales, activations and output, each once."""
        weights = self.n_columns * self.depth
        floats = weights // self.group + self.rows * (self.n_columns + self.depth)
        return weights * self.bits // 8 + 2 * floats


PRODUCTS = (
    Product(bits=4, n_columns=4096, depth=4096),
    Product(bits=4, n_columns=4096, depth=4096, dtype="float16"),
    Product(bits=4, n_columns=11008, depth=4096),
    Product(bits=4, n_columns=4096, depth=11008),
    Product(bits=4, n_columns=122880, depth=2560),
    Product(bits=3, n_columns=11008, depth=4096),
    Product(bits=3, n_columns=3584, depth=18944),
    Product(bits=3, n_columns=3584, depth=3584),
    Product(bits=3, n_columns=11008, depth=4096, dtype="float16"),
    Product(bits=8, n_columns=4096, depth=4096),
    Product(bits=4, n_columns=11008, depth=4096, rows=8),
    Product(bits=4, n_columns=11008, depth=4096, rows=16),
    Product(bits=2, n_columns=4096, depth=4096),
    Product(bits=4, n_columns=11008, depth=4096, rows=512),
)
FEW_ROWS = 64


def cases() -> list[KernelCase]:
    """One case per product."""
    return [_case(product) for product in PRODUCTS]


def _case(product: Product) -> KernelCase:
    peers: dict[str, Peer] = {
        "cuBLAS 16 bit": partial(_cublas, product),
        "gemlite": _repacked(product, gemlite),
        "Marlin": _repacked(product, marlin),
    }
    if product.bits == 4:
        if product.dtype == "bfloat16":
            peers["tinygemm int4"] = partial(_tinygemm, product)
        peers["inductor max-autotune"] = _inductor(product)
    return KernelCase(
        name=product.name,
        family="gemv_dequant" if product.rows <= FEW_ROWS else "gemm_dequant",
        model=partial(_model, product),
        inputs=partial(inputs_of, product),
        reference=partial(_reference, product),
        n_bytes=product.n_bytes,
        n_flops=2 * product.rows * product.n_columns * product.depth,
        tolerance=6e-2 if product.dtype == "bfloat16" else 1e-2,
        peers=peers,
    )


@lru_cache(maxsize=3)
def weights(product: Product) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n_columns, groups, group) and scales (n_columns, groups) of the wanted dtype."""
    import ml_dtypes

    rng = np.random.default_rng(product.seed)
    groups = (product.n_columns, product.depth // product.group)
    codes = rng.integers(0, 2**product.bits, (*groups, product.group), dtype=np.uint8)
    scales = rng.uniform(0.5, 1.5, groups) / 2**product.bits
    return codes, scales.astype(np.dtype(getattr(ml_dtypes, product.dtype, product.dtype)))


def _model(product: Product) -> Any:
    """The layer as a node that quantising exporters write."""
    node, stored = node_of(product, "x", "y")
    return model_of(product, [node], stored, {"y": product.n_columns})


def node_of(product: Product, x: str, y: str, *further: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The layer from ``x`` to ``y`` as a node, and what it stores.

    Args:
        product: The layer.
        x: Name of the input.
        y: Name of the output; stored weights are named after it.
        further: Names of inputs after the scales.
    """
    from onnx import helper

    codes, scales = weights(product)
    stored = {f"{y}.w": pack_stream(codes, product.bits), f"{y}.s": scales}
    own = product.bits == 3 or bool(further)
    node = helper.make_node(
        "DequantMatMul" if own else "MatMulNBits",
        [x, *stored, *further],
        [y],
        domain="effcompile" if own else "com.microsoft",
        K=product.depth,
        N=product.n_columns,
        bits=product.bits,
        block_size=product.group,
    )
    return node, stored


def model_of(
    product: Product,
    nodes: list[Any],
    stored: dict[str, np.ndarray],
    outputs: dict[str, int],
    inputs: list[Any] | None = None,
) -> Any:
    """A model of rows of ``product``.

    Args:
        product: Tells rows, depth and dtype.
        nodes: From ``x`` to the outputs.
        stored: Constants by name.
        outputs: Columns by name.
        inputs: Of the graph; ``x`` of the product's dtype if not given.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = getattr(TensorProto, "FLOAT16" if product.dtype == "float16" else "BFLOAT16")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "layer",
        inputs or [value("x", kind, [product.rows, product.depth])],
        [value(name, kind, [product.rows, columns]) for name, columns in outputs.items()],
        initializer=[numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    versions = {"": 20, "com.microsoft": 1, "effcompile": 1}
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def inputs_of(product: Product, seed: int) -> list[Any]:
    """Normal rows."""
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    shape, kind = (product.rows, product.depth), getattr(torch, product.dtype)
    return [torch.randn(shape, device="cuda", dtype=kind, generator=generator)]


def _on_gpu(product: Product) -> tuple[Any, Any]:
    import torch

    codes, scales = weights(product)
    kind = getattr(torch, product.dtype)
    scale = torch.from_numpy(scales.astype(np.float32)).cuda().to(kind)
    return torch.from_numpy(codes).cuda(), scale


def _reference(product: Product, inputs: Tensors) -> Tensors:
    return [exact(product, inputs[0].double())]


def exact(product: Product, x: Any) -> Any:
    """The product of a float64 ``x``."""
    import torch

    codes, scales = _on_gpu(product)
    parts = []
    step = max(1, PART_ELEMENTS // product.depth)
    for first in range(0, product.n_columns, step):
        part = slice(first, first + step)
        matrix = (codes[part].double() - 2 ** (product.bits - 1)) * scales[part, :, None].double()
        parts.append(x @ matrix.flatten(1).T)
    return torch.cat(parts, dim=-1)


def _cublas(product: Product, inputs: Tensors) -> Callable[[], Any]:
    import torch

    matrix = matrix_of(product)
    return lambda: torch.nn.functional.linear(inputs[0], matrix)


def matrix_of(product: Product) -> Any:
    """The weights as 16-bit floats, shape (n_columns, depth)."""
    import torch

    codes, scales = _on_gpu(product)
    kind = getattr(torch, product.dtype)
    middle = 2 ** (product.bits - 1)
    matrix = torch.empty(codes.flatten(1).shape, dtype=kind, device="cuda")
    step = max(1, PART_ELEMENTS // product.depth)
    for first in range(0, product.n_columns, step):
        part = slice(first, first + step)
        matrix[part] = ((codes[part].to(kind) - middle) * scales[part, :, None]).flatten(1)
    return matrix


def _tinygemm(product: Product, inputs: Tensors) -> Callable[[], Any]:
    import torch

    codes, scales = _on_gpu(product)
    flat = codes.flatten(1)
    pairs = (flat[:, ::2] << 4 | flat[:, 1::2]).contiguous()
    packed = torch.ops.aten._convert_weight_to_int4pack(pairs, INNER_TILES)
    zeros = torch.zeros_like(scales)
    both = torch.stack([scales, zeros], dim=-1).transpose(0, 1).contiguous()
    return lambda: torch.ops.aten._weight_int4pack_mm(inputs[0], packed, product.group, both)


def _repacked(product: Product, layer: Layer) -> Peer:
    """A library's layer on the same integers and scales."""

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        launch = layer(product.bits, partial(_on_gpu, product))
        return lambda: launch(inputs[0])

    return prepare


def _inductor(product: Product) -> Peer:
    """Unpacking and product as a user would write them, compiled together."""

    def layer(x: Any, packed: Any, scales: Any) -> Any:
        import torch

        codes = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(2)
        matrix = (codes.to(x.dtype) - 8) * scales[..., None]
        return x @ matrix.flatten(1).T

    compiled = inductor(layer)

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        codes, scales = _on_gpu(product)
        packed = (codes[..., ::2] | codes[..., 1::2] << 4).contiguous()
        return compiled([*inputs, packed, scales])

    return prepare
