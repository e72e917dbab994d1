"""Values of the part of an ONNX graph that depends on stored constants alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from effcompile.frontend.evaluating import evaluated, opsets_of
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
        self._opsets = opsets_of(model)
        self._n_readers = Counter(name for node in graph.node for name in node.input)
        self._shared: dict[str, np.ndarray | None] = {}
        self._known = set(self.stored)
        for node in graph.node:
            if _is_calculation(node) and self._known.issuperset(filter(None, node.input)):
                self._known.update(node.output)

    def is_known(self, name: str) -> bool:
        """Whether a value depends on no input of the graph, nor on another domain's operators."""
        return name in self._known

    def value(self, name: str) -> np.ndarray | None:
        """What a known value is, ``None`` where ONNX's reference evaluator cannot tell."""
        if name in self.stored:
            return array_of(self.stored[name])
        if self._n_readers[name] < 2:  # not kept: matrices of all layers would fill the memory
            return self._computed(name)
        if name not in self._shared:
            self._shared[name] = self._computed(name)
        return self._shared[name]

    def _computed(self, name: str) -> np.ndarray | None:
        node = self.producers[name]
        inputs = {source: self.value(source) for source in node.input if source}
        found = {source: value for source, value in inputs.items() if value is not None}
        return evaluated(node, found, self._opsets) if len(found) == len(inputs) else None


def _is_calculation(node: Any) -> bool:
    """Whether a node gives one value that follows from its inputs alone."""
    has_branches = any(attribute.HasField("g") for attribute in node.attribute)
    is_random = node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))
    is_plain = node.domain in DEFAULT_DOMAINS and len(node.output) == 1
    return is_plain and not has_branches and not is_random
