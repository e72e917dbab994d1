"""Floats that a program computes from its indices: positions between pixels, steps in time.

A position ``i * scale`` errs by a rounding of itself, the more the larger ``i`` is, and so does
whatever is read or interpolated there. Read from the program in TVM's JSON form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schedules.dtypes import is_float

Nodes = Sequence[Mapping[str, Any]]


def largest_coordinate(program: str) -> int:
    """The largest index that a program turns into a float; 0 if it turns none.

    Args:
        program: A schedulable function, serialised by TVM.
    """
    nodes: Nodes = json.loads(program)["nodes"]  # TVM writes infinities, which JSON lacks
    extents = _extents(nodes)
    return max((_largest_index(nodes, cast, extents) for cast in _casts_to_float(nodes)), default=0)


def _extents(nodes: Nodes) -> dict[int, int]:
    """Node of an axis variable to the extent of its axis."""
    found = {}
    for axis in (node["data"] for node in nodes if node["type"] == "tirx.IterVar"):
        extent = nodes[nodes[axis["dom"]]["data"]["extent"]]
        if extent["type"] == "ir.IntImm":
            found[axis["var"]] = int(nodes[extent["data"]["value"]]["data"])
    return found


def _casts_to_float(nodes: Nodes) -> Iterator[int]:
    """Nodes under a cast from an integer to a float."""
    for node in nodes:
        if node["type"] == "prim.Cast" and is_float(_dtype(nodes, node)):
            inner = node["data"]["value"]
            if not is_float(_dtype(nodes, nodes[inner])):
                yield inner


def _dtype(nodes: Nodes, node: Mapping[str, Any]) -> str:
    return str(nodes[node["data"]["ty"]]["data"]["dtype"])


def _largest_index(nodes: Nodes, root: int, extents: Mapping[int, int]) -> int:
    """About the largest value of an expression of indices; 0 if it depends on data."""
    largest, waiting, seen = 0, [root], set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        node = nodes[index]
        if node["type"] == "ir.TensorLoad":
            return 0
        largest = max(largest, extents.get(index, 0))
        waiting += _operands(node)
    return largest


def _operands(node: Mapping[str, Any]) -> list[int]:
    data = node["data"]
    if node["type"] == "ffi.Array":
        return list(data)
    if not node["type"].startswith(("prim.", "ir.Call")):
        return []
    names = ("a", "b", "value", "args", "condition", "true_value", "false_value")
    return [data[name] for name in names if name in data]
