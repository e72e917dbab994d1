"""Which function converts which ONNX operator, by domain and name.

A converter is registered with one decorator and needs nothing else::

    @converter("Softmax", domain="effcompile")
    def softmax(node: Node) -> Any:
        return softmax_call(node.builder, node.input(0), ...)

Operators that are not registered here go to the stock importer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

Converter = Callable[["Node"], Any]

_BUILT_IN = (
    "activations",
    "attention",
    "custom",
    "dequantise",
    "einsum",
    "elementwise",
    "gather",
    "group_query_attention",
    "headwise_attention",
    "importance",
    "inference",
    "integer_softmax",
    "masked_attention",
    "matmul_nbits",
    "merge",
    "multi_head_attention",
    "norms",
    "open_shapes",
    "paged_attention",
    "recurrent",
    "resize",
    "rotary",
    "split",
    "transcendental",
    "variadic",
)
_converters: dict[tuple[str, str], Converter] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One ONNX node with its inputs already in Relax.

    Attributes:
        name: Name in the ONNX graph.
        builder: The ``relax.BlockBuilder`` that new calls are emitted with.
        inputs: Relax expressions; ``None`` where an optional input is absent.
        attrs: Attributes; strings decoded.
        n_outputs: Outputs that the graph names.
        opset: Version of the default operator set.
        stock: Converts the same node as the stock importer would.
    """

    name: str
    builder: Any
    inputs: Sequence[Any]
    attrs: Mapping[str, Any]
    n_outputs: int
    opset: int
    stock: Callable[[], Any]

    def input(self, index: int) -> Any:
        """The input at a position, ``None`` if it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> Any:
        """The input at a position.

        Raises:
            ValueError: It is absent.
        """
        value = self.input(index)
        if value is None:
            raise ValueError(f"input {index} is absent, and the operator needs it")
        return value

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a variable, so that its shape and dtype are known."""
        return self.builder.emit(expression)


def converter(op_type: str, *, domain: str = "") -> Callable[[Converter], Converter]:
    """Register a function as the converter of an operator; the last registration holds."""

    def register(function: Converter) -> Converter:
        _converters[domain, op_type] = function
        return function

    return register


def find_converter(domain: str, op_type: str) -> Converter | None:
    """The registered converter of an operator, ``None`` if the stock importer serves it."""
    _load_built_in()
    return _converters.get(("" if domain == "ai.onnx" else domain, op_type))


@cache
def _load_built_in() -> None:
    for name in _BUILT_IN:
        import_module(f"effcompile.frontend.converters.{name}")
