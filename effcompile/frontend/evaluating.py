"""One node of an ONNX graph, computed by ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def opsets_of(model: Any) -> dict[str, int]:
    """Version of the operators by domain, of an ``onnx.ModelProto``."""
    return {entry.domain: entry.version for entry in model.opset_import}


def evaluated(
    node: Any, inputs: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> np.ndarray | None:
    """The one output of a node; ``None`` where the evaluator fails.

    Args:
        node: ``onnx.NodeProto`` with one output.
        inputs: By name; every one that the node has.
        opsets: See :func:`opsets_of`.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        (result,) = ReferenceEvaluator(node, opsets=opsets).run(None, inputs)
    except Exception:  # whatever NumPy raises: the importer will name the node and the cause
        return None
    return np.asarray(result)
