"""Operators written in simpler ones, before the importer looks at the graph.

What ONNX itself defines as a function of other operators is replaced by that definition where
nobody converts it. Quantised operators become the arithmetic they stand for: integers minus
their zero point are exact in float32, and so are their products and sums up to 2**24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from effcompile.frontend.light import take_structure, without_weights
from effcompile.frontend.operators import DEFAULT_DOMAINS, is_supported
from effcompile.frontend.tensors import array_of

CONTRIB = "com.microsoft"


def expand_operators(model: Any) -> None:
    """Rewrite quantised operators, and functions of ONNX that nobody converts.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    _expand_quantised(model.graph)
    _take_definitions(model)


def _take_definitions(model: Any) -> None:
    import onnx
    import onnx.inliner

    found = {
        ("", node.op_type)
        for node in model.graph.node
        if node.domain in DEFAULT_DOMAINS
        and onnx.defs.has(node.op_type)
        and not is_supported(node.domain, node.op_type)
    }
    schemas = {name: onnx.defs.get_schema(*name[::-1]) for name in found}
    defined = [
        name
        for name, schema in schemas.items()
        if schema.has_function or schema.has_context_dependent_function
    ]
    if defined:
        light = without_weights(model)
        take_structure(
            model,
            onnx.inliner.inline_selected_functions(light, defined, inline_schema_functions=True),
        )


class _Rewriting:
    """Nodes and constants that take the place of one node.

    Args:
        node: What is replaced.
        stored: Initialisers of the graph by name.
    """

    def __init__(self, node: Any, stored: Mapping[str, Any]) -> None:
        self.node = node
        self.stored = stored
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.attrs = {attribute.name: attribute for attribute in node.attribute}

    def input(self, index: int) -> str:
        """Name of an input; empty if it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def add(self, op_type: str, *inputs: str, output: str = "", **attrs: Any) -> str:
        """Append a node of the default domain; returns the name of its output."""
        from onnx import helper

        output = output or f"{self.node.output[0]}/{op_type}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attrs))
        return output

    def add_same(self, op_type: str, *inputs: str) -> str:
        """A node with the attributes of the one that is replaced."""
        output = self.add(op_type, *inputs)
        self.nodes[-1].attribute.extend(self.attrs.values())
        return output

    def constant(self, value: np.ndarray, role: str) -> str:
        """Store a constant."""
        from onnx import numpy_helper

        name = f"{self.node.output[0]}/{role}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def real(self, first: int) -> str:
        """A quantised input, followed by scale and zero point, as floats."""
        return self.add("DequantizeLinear", *self._present(first, 3))

    def quantise(self, value: str, first: int) -> None:
        """Floats to the node's output; ``first`` is the input with the scale."""
        self.add("QuantizeLinear", value, *self._present(first, 2), output=self.node.output[0])

    def _present(self, first: int, count: int) -> list[str]:
        names = [self.input(index) for index in range(first, first + count)]
        return names if names[-1] else names[:-1]

    def centred(self, index: int, zero_index: int, axis: int = 0) -> str:
        """An integer input minus its zero point, or one for each part of an axis, in float32."""
        from onnx import TensorProto

        name, zero = self.input(index), self.input(zero_index)
        if name in self.stored and (not zero or zero in self.stored):
            value = array_of(self.stored[name]).astype(np.float32)
            points = array_of(self.stored[zero]).astype(np.float32) if zero else np.zeros(1)
            points = _along(points, axis, value.ndim).astype(np.float32)
            return self.constant(value - points, f"centred{index}")
        wide = self.add("Cast", name, to=TensorProto.FLOAT)
        if not zero:
            return wide
        return self.add("Sub", wide, self.add("Cast", zero, to=TensorProto.FLOAT))


def _along(parameter: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One value for all, or one for each part of an axis, shaped to meet an array of a rank."""
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if each == axis else 1 for each in range(rank)])


Expansion = Callable[[_Rewriting], bool]
"""Adds what replaces a node; false if it cannot."""


def _expand_quantised(graph: Any) -> None:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes, is_changed = [], False
    for node in graph.node:
        rewriting = _Rewriting(node, stored)
        expand = _EXPANSIONS.get((node.domain if node.domain == CONTRIB else "", node.op_type))
        if expand is not None and expand(rewriting):
            nodes += rewriting.nodes
            graph.initializer.extend(rewriting.constants)
            is_changed = True
        else:
            nodes.append(node)
    if is_changed:
        del graph.node[:]
        graph.node.extend(nodes)


def _convolution(one: _Rewriting) -> bool:
    """``QLinearConv``: x, its scale and zero point, w likewise, y's scale and zero point, bias."""
    from onnx import TensorProto

    weight, scale = one.stored.get(one.input(3)), one.stored.get(one.input(4))
    if weight is None or scale is None:
        return False
    bias = one.input(8) and one.add("Cast", one.input(8), to=TensorProto.FLOAT)
    operands = [one.centred(0, 2), one.centred(3, 5), *([bias] if bias else [])]
    per_channel = one.constant(_along(array_of(scale), 0, len(weight.dims) - 1), "scale")
    step = one.add("Mul", one.input(1), per_channel)
    one.quantise(one.add("Mul", one.add_same("Conv", *operands), step), 6)
    return True


def _integer_convolution(one: _Rewriting) -> bool:
    """``ConvInteger``: x, w, their zero points."""
    from onnx import TensorProto

    if one.input(1) not in one.stored:
        return False
    sums = one.add_same("Conv", one.centred(0, 2), one.centred(1, 3))
    one.add("Cast", sums, output=one.node.output[0], to=TensorProto.INT32)
    return True


def _product(one: _Rewriting) -> bool:
    """``QLinearMatMul``: a, its scale and zero point, b likewise, y's scale and zero point."""
    from onnx import TensorProto

    sums = one.add("MatMulInteger", *(one.input(index) for index in (0, 3, 2, 5)))
    step = one.add("Mul", one.input(1), one.input(4))
    wide = one.add("Cast", sums, to=TensorProto.FLOAT)
    one.quantise(one.add("Mul", wide, step), 6)
    return True


def _general_product(one: _Rewriting) -> bool:
    """``QGemm``: a, its scale and zero point, b likewise, bias, y's scale and zero point."""
    from onnx import TensorProto

    if not one.input(7) or one.stored.get(one.input(4)) is None:
        return False
    scale = array_of(one.stored[one.input(4)]).reshape(-1)
    step = one.add("Mul", one.input(1), one.constant(scale, "scale"))
    bias = one.input(6) and one.add("Cast", one.input(6), to=TensorProto.FLOAT)
    columns = 0 if "transB" in one.attrs and one.attrs["transB"].i else 1
    operands = [one.centred(0, 2), one.centred(3, 5, columns), *([bias] if bias else [])]
    one.quantise(one.add("Mul", one.add_same("Gemm", *operands), step), 7)
    return True


def _on_floats(op_type: str, n_inputs: int) -> Expansion:
    """Quantised inputs to floats, the float operator, and back."""

    def expand(one: _Rewriting) -> bool:
        if "channels_last" in one.attrs and one.attrs.pop("channels_last").i:
            return False
        operands = [one.real(3 * index) for index in range(n_inputs)]
        one.quantise(one.add_same(op_type, *operands), 3 * n_inputs)
        return True

    return expand


def _concatenation(one: _Rewriting) -> bool:
    """``QLinearConcat``: y's scale and zero point, then every part with its own."""
    parts = [one.real(first) for first in range(2, len(one.node.input), 3)]
    one.quantise(one.add_same("Concat", *parts), 0)
    return True


_EXPANSIONS: dict[tuple[str, str], Expansion] = {
    ("", "QLinearConv"): _convolution,
    ("", "ConvInteger"): _integer_convolution,
    ("", "QLinearMatMul"): _product,
    (CONTRIB, "QGemm"): _general_product,
    (CONTRIB, "QLinearAdd"): _on_floats("Add", 2),
    (CONTRIB, "QLinearMul"): _on_floats("Mul", 2),
    (CONTRIB, "QLinearSigmoid"): _on_floats("Sigmoid", 1),
    (CONTRIB, "QLinearLeakyRelu"): _on_floats("LeakyRelu", 1),
    (CONTRIB, "QLinearAveragePool"): _on_floats("AveragePool", 1),
    (CONTRIB, "QLinearGlobalAveragePool"): _on_floats("GlobalAveragePool", 1),
    (CONTRIB, "QLinearConcat"): _concatenation,
}
