"""Layer and root-mean-square normalisation, with and without a residual input."""

from __future__ import annotations

from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.converters.tensors import outputs
from effcompile.frontend.kernels.marking import type_of
from effcompile.frontend.kernels.norms import layer_norm_call, rms_norm_call


@converter("RMSNormalization")
def rms_normalization(node: Node) -> Any:
    """Root-mean-square norm (opset 23). Inputs: x, scale."""
    if not _is_row_norm(node):
        return node.stock()
    return rms_norm_call(node.builder, node.required(0), node.required(1), epsilon=_epsilon(node))


@converter("LayerNormalization")
def layer_normalization(node: Node) -> Any:
    """Layer norm. Inputs: x, scale, optional shift."""
    if not _is_row_norm(node) or node.n_outputs > 1:
        return node.stock()
    x, scale, shift = node.required(0), node.required(1), node.input(2)
    return layer_norm_call(node.builder, x, scale, shift, epsilon=_epsilon(node))


def _is_row_norm(node: Node) -> bool:
    """Whether the norm is over the last axis with one scale per feature."""
    rank = len(type_of(node.required(0))[0])
    axis = int(node.attrs.get("axis", -1)) % rank
    return axis == rank - 1 and len(type_of(node.required(1))[0]) == 1


@converter("SimplifiedLayerNormalization", domain="com.microsoft")
def simplified_layer_norm(node: Node) -> Any:
    """Root-mean-square norm over the last axis. Inputs: x, scale."""
    x = node.required(0)
    axis = int(node.attrs.get("axis", -1))
    if axis not in (-1, len(type_of(x)[0]) - 1):
        raise ValueError(f"axis is {axis}, expected the last one")
    normal = node.emit(rms_norm_call(node.builder, x, node.required(1), epsilon=_epsilon(node)))
    return outputs(node, normal, None)


@converter("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_simplified_layer_norm(node: Node) -> Any:
    """``rms_norm(x + skip + bias)``. Inputs: x, skip, scale, optional bias."""
    total = _residual_sum(node, node.input(3))
    normal = node.emit(rms_norm_call(node.builder, total, node.required(2), epsilon=_epsilon(node)))
    return outputs(node, normal, *_after_norm(node, total))


@converter("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_norm(node: Node) -> Any:
    """``layer_norm(x + skip + bias)``. Inputs: x, skip, scale, optional shift, optional bias."""
    total = _residual_sum(node, node.input(4))
    normal = node.emit(
        layer_norm_call(
            node.builder, total, node.required(2), node.input(3), epsilon=_epsilon(node)
        )
    )
    return outputs(node, normal, *_after_norm(node, total))


def _epsilon(node: Node) -> float:
    return float(node.attrs.get("epsilon", 1e-5))


def _residual_sum(node: Node, bias: Any) -> Any:
    from tvm import relax

    total = node.emit(relax.op.add(node.required(0), node.required(1)))
    return total if bias is None else node.emit(relax.op.add(total, bias))


def _after_norm(node: Node, total: Any) -> tuple[Any, Any, Any]:
    """Outputs after the first: statistics, which only training reads, and the sum."""
    return (total, total, total) if node.n_outputs > 3 else (None, None, None)
