"""Workloads of the integer softmax, as the front end makes them of ONNX models."""

from __future__ import annotations

from typing import Any

from schedules.dtypes import FLOATS
from schedules.integer_softmax_problem import DEFERRED, SHARES
from schedules.workload import Workload
from tests.schedules.merge_workloads import workload_of

SNAPPED = {"score_bits": 8, "octave": 17, "guard_bits": 8, "clip_to_zero": 1, "sum_bits": 32}
POWER_OF_TWO = {"form": "power_of_two", "score_bits": 8, "octave": 16, "table_bits": 15}


def integer_softmax(shape: tuple[int, ...], dtype: str, **attrs: Any) -> Workload:
    """Attributes as the operator takes them."""
    output = attrs.get("output")
    code = "uint8" if attrs.get("output_bits", 16) <= 8 else "uint16"
    floating = dtype if dtype in FLOATS else "float32"
    outputs = [("y", (shape, {SHARES: floating, DEFERRED: "int32"}.get(output, code)))]
    if output == DEFERRED:
        outputs.append(("sums", (shape[:-1], "int64")))
    inputs = (("x", (shape, dtype)),)
    return workload_of("IntegerSoftmax", inputs, tuple(outputs), tuple(attrs.items()))


def small_workloads() -> dict[str, Workload]:
    """One ragged workload per form, dtype and output."""
    return {
        "polynomial": integer_softmax((2, 3, 5, 17), "float32"),
        "one element": integer_softmax((1, 1, 1, 1), "float16"),
        "8 bits": integer_softmax((1, 2, 4, 64), "bfloat16", output_bits=8),
        "4 bit scores": integer_softmax((9, 33), "float16", score_bits=4, clip=4.0),
        "snapped": integer_softmax((21, 260), "bfloat16", output=SHARES, **SNAPPED),
        "power of two": integer_softmax((7, 300), "float32", **POWER_OF_TWO),
        "saturating": integer_softmax((4, 297), "float32", clip_to_zero=1),
        "deferred": integer_softmax((3, 11, 40), "float16", output=DEFERRED, **SNAPPED),
        "integer scores": integer_softmax((5, 3, 70), "int8", score_bits=6),
        "wide integer scores": integer_softmax((6, 90), "int32", output=SHARES, **POWER_OF_TWO),
    }
