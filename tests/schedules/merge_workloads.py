"""Workloads of the merge family, as the front end makes them of ONNX models."""

from __future__ import annotations

from functools import cache
from typing import Any

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.target import Target
from schedules.workload import Workload

CPU = Target(kind="llvm", arch="x86-64-v3", name="test CPU", n_cores=2)


@cache
def workload_of(op_type: str, inputs: Any, outputs: Any, attrs: Any = ()) -> Workload:
    """The one workload of a model; mappings as tuples of pairs."""
    model = custom_model(op_type, dict(inputs), dict(outputs), **dict(attrs))
    (extracted,) = extract_tasks(lower({"main": prepare_model(model)}, CPU), CPU)
    return extracted.task.workload


def cosine(rows: int, width: int, dtype: str, places: int = 0) -> Workload:
    """``places`` 0 for a list of predecessors."""
    inputs = [("x", ((rows, width), dtype))]
    inputs += [] if places else [("previous", ((rows,), "int32"))]
    attrs = (("places", places),) if places else ()
    return workload_of("FrameCosine", tuple(inputs), (("y", ((rows,), "float32")),), attrs)


def mean(
    shape: tuple[int, int, int], groups: int, dtype: str, *, listed: bool = True, longest: int = 0
) -> Workload:
    """Segments of rows along the middle axis."""
    outer, rows, width = shape
    inputs = [("x", (shape, dtype)), ("starts", ((groups + 1,), "int32"))]
    inputs += [("rows", ((rows,), "int32"))] if listed else []
    outputs = (("y", ((outer, groups, width), dtype)),)
    attrs = (("axis", 1), ("longest", longest))
    return workload_of("SegmentMean", tuple(inputs), outputs, attrs)


def mixture(op_type: str, shape: tuple[int, int, int], groups: int, dtype: str) -> Workload:
    """``GatherRows``, ``BlendRows``, ``RenoiseRows`` or ``SelectRows``."""
    made = (shape[0], groups, shape[2])
    index = ((groups,), "int32")
    inputs: dict[str, Any] = {
        "GatherRows": {"x": (shape, dtype), "index": index},
        "BlendRows": {
            "x": (shape, dtype),
            "low": index,
            "high": index,
            "weight": ((groups,), "float32"),
        },
        "RenoiseRows": {
            "noise": (shape, dtype),
            "clean": (made, dtype),
            "index": index,
            "sigma": ((1,), "float32"),
        },
        "SelectRows": {"fresh": (made, dtype), "cache": (shape, dtype), "source": index},
    }[op_type]
    return workload_of(op_type, tuple(inputs.items()), (("y", (made, dtype)),), (("axis", 1),))


def partials(splits: int, rows: int, width: int, dtype: str) -> Workload:
    """Partial softmax results of some rows."""
    inputs = (("parts", ((splits, rows, width), dtype)), ("sums", ((splits, rows), "float32")))
    outputs = (("y", ((rows, width), dtype)), ("lse", ((rows,), "float32")))
    return workload_of("CombinePartials", inputs, outputs)


def chains(
    rows: int, places: int, groups: int, *, listed: bool = False, limited: bool = False
) -> Workload:
    """Chains of rows, with room for some segments; ``places`` counts where nothing is listed."""
    inputs = [("cosine", ((rows,), "float32")), ("least", ((1,), "float32"))]
    inputs += [("previous" if listed else "", ((rows,), "int32"))] if listed or limited else []
    inputs += [("most", ((1,), "int32"))] if limited else []
    outputs = tuple(
        (name, ((size,), "int32"))
        for name, size in (("r", rows), ("s", groups + 1), ("h", groups), ("c", 1))
    )
    attrs = (("places", 0 if listed else places), ("groups", groups))
    return workload_of("ChainSegments", tuple(inputs), outputs, attrs)


def best(rows: int, groups: int) -> Workload:
    """The rows of the largest scores, with room for some."""
    inputs = (("scores", ((rows,), "float32")), ("count", ((1,), "int32")))
    return workload_of("TopRows", inputs, (("y", ((groups,), "int32")),), (("groups", groups),))


def small_workloads() -> dict[str, Workload]:
    """One ragged workload per operator and form."""
    return {
        "cosine by places": cosine(67, 100, "bfloat16", 6),
        "cosine by list": cosine(50, 36, "float32"),
        "mean by list": mean((1, 60, 72), 25, "bfloat16", longest=7),
        "mean in order": mean((3, 33, 40), 12, "float16", listed=False),
        "gather": mixture("GatherRows", (3, 9, 50), 7, "float16"),
        "blend": mixture("BlendRows", (2, 9, 24), 17, "float32"),
        "renoise": mixture("RenoiseRows", (4, 9, 64), 7, "bfloat16"),
        "select": mixture("SelectRows", (5, 3, 16), 8, "float16"),
        "partials": partials(5, 33, 24, "float32"),
    }
