"""Which operators of a model can be converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from effcompile.errors import UnsupportedOperators
from effcompile.frontend.converters.registry import find_converter
from schedules import _tvm

DEFAULT_DOMAINS = ("", "ai.onnx")
# Operators of com.microsoft that the stock importer converts as that domain defines them.
STOCK_CONTRIB = frozenset(
    {
        "Attention",
        "BiasGelu",
        "EmbedLayerNormalization",
        "FastGelu",
        "Gelu",
        "QuickGelu",
        "SkipLayerNormalization",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedNode:
    """A node that neither our converters nor the stock importer can convert.

    Attributes:
        name: Name in the graph; inside branches, after the names of the nodes around it.
        op_type: Operator.
        domain: Operator domain; empty for the default one.
    """

    name: str
    op_type: str
    domain: str


def unsupported_operators(model: Any) -> list[UnsupportedNode]:
    """Every node, branches included, that nobody can convert, in graph order."""
    return [
        UnsupportedNode(name=name, op_type=node.op_type, domain=node.domain)
        for node, name in _nodes(model.graph, "")
        if not is_supported(node.domain, node.op_type)
    ]


def is_supported(domain: str, op_type: str) -> bool:
    """Whether a converter of ours or the stock importer takes an operator."""
    if find_converter(domain, op_type) is not None:
        return True
    if domain in DEFAULT_DOMAINS:
        return op_type == "If" or op_type in _stock_converters()
    return domain == "com.microsoft" and op_type in STOCK_CONTRIB


def check_operators(model: Any) -> None:
    """Raise if any node cannot be converted.

    Raises:
        UnsupportedOperators: Lists every such node.
    """
    _refuse(unsupported_operators(model))


def _refuse(nodes: list[UnsupportedNode]) -> None:
    if not nodes:
        return
    listed = "; ".join(
        f"{node.name} ({node.domain + '::' if node.domain else ''}{node.op_type})" for node in nodes
    )
    counted = "1 node has an operator" if len(nodes) == 1 else f"{len(nodes)} nodes have operators"
    raise UnsupportedOperators(
        f"{counted} that cannot be converted: {listed}. "
        "Export with another opset, replace these operators, or register a converter "
        "(effcompile.frontend.converters.registry.converter)."
    )


@cache
def _stock_converters() -> Mapping[str, Any]:
    _tvm.load()
    from tvm.relax.frontend.onnx import onnx_frontend

    return dict(onnx_frontend._get_convert_map())


def adopt_contrib_operators(model: Any) -> None:
    """Give operators of com.microsoft that stand in the default domain their own.

    Some exporters leave them there, where the ONNX checker does not know them.

    Args:
        model: ``onnx.ModelProto``; changed in place.

    Raises:
        UnsupportedOperators: An operator of the default domain exists nowhere; lists all.
    """
    import onnx

    functions = {(function.domain, function.name) for function in model.functions}
    unknown, adopted = [], False
    for node, name in _nodes(model.graph, ""):
        if node.domain not in DEFAULT_DOMAINS or onnx.defs.has(node.op_type):
            continue
        if (node.domain, node.op_type) in functions:
            continue
        if find_converter("com.microsoft", node.op_type) or node.op_type in STOCK_CONTRIB:
            node.domain, adopted = "com.microsoft", True
        else:
            unknown.append(UnsupportedNode(name=name, op_type=node.op_type, domain=""))
    _refuse(unknown)
    if adopted and all(entry.domain != "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _nodes(graph: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    """Every node, branches included, with its full name."""
    for node in graph.node:
        name = prefix + (node.name or next(iter(node.output), node.op_type))
        yield node, name
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g, f"{name}/")
