"""Values of the part of an ONNX graph that depends on stored constants alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from effcompile.frontend.operators import DEFAULT_DOMAINS
from effcompile.frontend.tensors import array_of


class ConstantGraph:
    """What can be computed before any input is known.

    Args:
        model: ``onnx.ModelProto``.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._known = set(self.stored)
        for node in graph.node:
            if _is_calculation(node) and self._known.issuperset(filter(None, node.input)):
                self._known.update(node.output)

    def is_known(self, name: str) -> bool:
        """Whether a value depends on no input of the graph, nor on another domain's operators."""
        return name in self._known

    def value(self, name: str) -> np.ndarray | None:
        """What a known value is, ``None`` where ONNX's reference evaluator cannot tell."""
        from onnx.reference import ReferenceEvaluator

        if name in self.stored:
            return array_of(self.stored[name])
        node = self.producers[name]
        inputs = {source: self.value(source) for source in node.input if source}
        if any(one is None for one in inputs.values()):
            return None
        try:
            (result,) = ReferenceEvaluator(node, opsets=self._opsets).run(None, inputs)
        except Exception:  # whatever NumPy raises: the graph is left as it is
            return None
        return np.asarray(result)


def _is_calculation(node: Any) -> bool:
    """Whether a node gives one value that follows from its inputs alone."""
    has_branches = any(attribute.HasField("g") for attribute in node.attribute)
    is_random = node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))
    is_plain = node.domain in DEFAULT_DOMAINS and len(node.output) == 1
    return is_plain and not has_branches and not is_random
