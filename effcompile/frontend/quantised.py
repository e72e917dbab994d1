"""Products with dequantised weights, rewritten in the ONNX graph as one node.

``DequantizeLinear`` of a stored matrix before a ``MatMul`` or ``Gemm``, transposed or not, would be
folded to floats, or run as a kernel of its own; either way the memory that quantisation saves is
read again. Here the weights are packed once, by column and block, and the nodes become
``effcompile::DequantMatMul``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from effcompile.frontend.constant_graph import ConstantGraph
from effcompile.frontend.operators import DEFAULT_DOMAINS
from effcompile.frontend.tensors import array_of
from effcompile.frontend.written_quantisation import quantised_columns

FOUR_BITS = ("INT4", "UINT4")
EIGHT_BITS = ("INT8", "UINT8")
PRODUCT_DOMAIN = "effcompile"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedMatrix:
    """A quantised matrix in the form that the product reads.

    Attributes:
        packed: uint8, shape (n_columns, n_blocks, block * bits / 8).
        scales: Shape (n_columns, n_blocks).
        zero_points: uint8, shape (n_columns, ceil(n_blocks * bits / 8)).
        bits: 4 or 8.
        block: Values that share a scale.
        depth: Rows of the original matrix.
    """

    packed: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray
    bits: int
    block: int
    depth: int

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point is the one that products have without any."""
        middle = 1 << (self.bits - 1)
        return bool((self.zero_points == (middle if self.bits == 8 else middle * 17)).all())


def merge_written_products(model: Any) -> int:
    """Rewrite products with matrices that the graph's own arithmetic unpacks, in place.

    Returns:
        How many; what only they read is still there.
    """
    from onnx import helper

    graph, constants = model.graph, ConstantGraph(model)
    dtypes = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    dtypes |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
    n_replaced = 0
    for node in graph.node:
        transposed = _right_transposed(node)
        if transposed is None:
            continue
        found = quantised_columns(constants, node.input[1], transposed)
        dtype = dtypes.get(node.input[0])
        if found is None or dtype is None:
            continue
        scales = found.scales.astype(helper.tensor_dtype_to_np_dtype(dtype))
        matrix = _packed(found.values, scales, found.zeros, found.bits)
        if matrix is not None and _bias_fits(node, matrix, constants.stored):
            _replace(graph, node, matrix)
            n_replaced += 1
    if n_replaced and all(entry.domain != PRODUCT_DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(PRODUCT_DOMAIN, 1))
    return n_replaced


def merge_dequantised_products(graph: Any) -> None:
    """Rewrite every matching product in place; what only it read disappears."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    unused: set[str] = set()
    for node in graph.node:
        transposed = _right_transposed(node)
        matrix = None
        if transposed is not None:
            matrix = _matrix_behind(node.input[1], transposed, producers, stored)
        if matrix is not None and _bias_fits(node, matrix, stored):
            weight = node.input[1]
            _replace(graph, node, matrix)
            _release(weight, producers, uses, unused)
    kept = [node for node in graph.node if node.output[0] not in unused]
    if unused:
        del graph.node[:]
        graph.node.extend(kept)


def _release(name: str, producers: dict[str, Any], uses: Counter[str], unused: set[str]) -> None:
    """One reader less of a value: without any, its producer is not needed either."""
    uses[name] -= 1
    if uses[name] or name not in producers:
        return
    unused.add(producers[name].output[0])
    for source in producers[name].input:
        _release(source, producers, uses, unused)


def _right_transposed(node: Any) -> bool | None:
    """Whether a product takes its second operand transposed; ``None`` if it is no such product."""
    if node.domain not in DEFAULT_DOMAINS:
        return None
    if node.op_type == "MatMul":
        return False
    if node.op_type != "Gemm":
        return None
    attrs = {attribute.name: attribute for attribute in node.attribute}
    scaled = any(name in attrs and attrs[name].f != 1.0 for name in ("alpha", "beta"))
    if scaled or ("transA" in attrs and attrs["transA"].i):
        return None
    return "transB" in attrs and bool(attrs["transB"].i)


def _bias_fits(node: Any, matrix: PackedMatrix, stored: dict[str, Any]) -> bool:
    """Whether a ``Gemm`` adds nothing, or a stored value per column."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = stored.get(node.input[2])
    return bias is not None and list(bias.dims) == [matrix.packed.shape[0]]


def _matrix_behind(
    name: str, transposed: bool, producers: dict[str, Any], stored: dict[str, Any]
) -> PackedMatrix | None:
    """The stored matrix (depth, columns) that a product reads, ``None`` if it has another form."""
    node = producers.get(name)
    if node is not None and node.op_type == "Transpose" and node.domain in DEFAULT_DOMAINS:
        if any(list(one.ints) != [1, 0] for one in node.attribute if one.name == "perm"):
            return None
        transposed, node = not transposed, producers.get(node.input[0])
    return None if node is None else _packed_matrix(node, transposed, stored)


def _packed_matrix(node: Any, transposed: bool, stored: dict[str, Any]) -> PackedMatrix | None:
    from onnx import TensorProto

    if node.op_type != "DequantizeLinear" or node.domain not in DEFAULT_DOMAINS:
        return None
    if any(name and name not in stored for name in node.input):
        return None
    kind = TensorProto.DataType.Name(stored[node.input[0]].data_type)
    values = array_of(stored[node.input[0]])
    if kind not in (*FOUR_BITS, *EIGHT_BITS) or values.ndim != 2:
        return None
    attrs = {attribute.name: attribute.i for attribute in node.attribute}
    scales = array_of(stored[node.input[1]])
    has_zeros = len(node.input) > 2 and node.input[2]
    points = array_of(stored[node.input[2]]) if has_zeros else np.zeros_like(scales)
    if transposed:
        attrs["axis"] = 1 - attrs.get("axis", 1) % 2
        values, scales, points = values.T, scales.T, points.T
    spread = _by_column(scales, values.shape, attrs)
    zeros = _by_column(points.astype(np.int32), values.shape, attrs)
    if spread is None or zeros is None:
        return None
    bits = 4 if kind in FOUR_BITS else 8
    # Signed values become unsigned ones with a shifted zero point.
    shift = 0 if kind.startswith("U") else 2 ** (bits - 1)
    return _packed(values.astype(np.int32) + shift, spread, zeros + shift, bits)


def _by_column(
    parameter: np.ndarray, shape: tuple[int, ...], attrs: dict[str, int]
) -> np.ndarray | None:
    """Scales of a (depth, columns) matrix as (columns, blocks); ``None`` if not per column."""
    depth, n_columns = shape
    axis, block = attrs.get("axis", 1) % 2, attrs.get("block_size", 0)
    if parameter.size == 1:
        return np.full((n_columns, 1), parameter.reshape(-1)[0])
    if block:
        evenly = axis == 0 and depth % block == 0
        return parameter.T if evenly and parameter.shape == (depth // block, n_columns) else None
    if axis == 1 and parameter.shape == (n_columns,):
        return parameter.reshape(n_columns, 1)
    return None


def _packed(
    values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int
) -> PackedMatrix | None:
    depth, n_columns = values.shape
    n_blocks = scales.shape[1]
    block = depth // n_blocks
    if block * bits % 8:
        return None
    blocks = values.T.reshape(n_columns, n_blocks, block)
    return PackedMatrix(
        packed=_pack(blocks, bits),
        scales=np.ascontiguousarray(scales),
        zero_points=_pack(zeros, bits),
        bits=bits,
        block=block,
        depth=depth,
    )


def _pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned values along the last axis into bytes, lowest bits first."""
    if bits == 8:
        return np.ascontiguousarray(values).astype(np.uint8)
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    packed: np.ndarray = values[..., 0::2] | (values[..., 1::2] << bits)
    return packed.astype(np.uint8)


def _replace(graph: Any, node: Any, matrix: PackedMatrix) -> None:
    from onnx import helper, numpy_helper

    parts = {"packed": matrix.packed, "scales": matrix.scales}
    if not matrix.is_symmetric:
        parts["zero_points"] = matrix.zero_points
    names = [f"{node.output[0]}.{role}" for role in parts]
    for name, value in zip(names, parts.values(), strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    names += [""] * matrix.is_symmetric
    # Between zero points and bias stands the group index, which is absent.
    bias = ["", *node.input[2:3]] if len(node.input) > 2 and node.input[2] else []
    product = helper.make_node(
        "DequantMatMul",
        [node.input[0], *names, *bias],
        list(node.output),
        name=node.name,
        domain=PRODUCT_DOMAIN,
        K=matrix.depth,
        N=matrix.packed.shape[0],
        bits=matrix.bits,
        block_size=matrix.block,
    )
    node.CopyFrom(product)
