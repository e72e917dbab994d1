"""Operands that do not belong together are refused with what was found and expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from effcompile.errors import BadModel
from tests.effcompile.lowered_models import graph_model, lowered

ROWS, HEADS = np.zeros((256, 512), np.float16), (1, 4, 64, 32)


def zeros(*shape: int, dtype: Any = np.float16) -> np.ndarray:
    return np.zeros(shape, dtype)


def counts(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


def refused(op: str, domain: str, inputs: dict[str, np.ndarray], match: str, **attrs: Any) -> None:
    node = helper.make_node(op, list(inputs), ["y"], domain=domain, **attrs)
    data = {"x": inputs.pop("x")}
    types = {"y": TensorProto.FLOAT16}
    with pytest.raises(BadModel, match=match):
        lowered(graph_model([node], data, ["y"], constants=inputs, output_types=types))


QUANTISED: dict[str, tuple[dict[str, Any], str]] = {
    "short weights": ({"w": zeros(64, 8, 8, dtype=np.uint8)}, "expected 8192 elements in all"),
    "long weights": ({"w": zeros(64, 8, 32, dtype=np.uint8)}, "expected 8192 elements in all"),
    "signed weights": ({"w": zeros(64, 8, 16, dtype=np.int8)}, "are int8, expected uint8"),
    "few scales": ({"s": zeros(64, 4)}, r"scales: found shape \[64, 4\], expected 512"),
    "whole scales": ({"s": counts(64, 8)}, "scales are int32, expected floats"),
    "few zero points": ({"z": zeros(64, 2, dtype=np.uint8)}, "expected 256 elements"),
    "narrow x": ({"x": zeros(1, 128)}, "x is 128 wide, expected K, which is 256"),
    "no block": ({"block_size": 0}, "block_size is 0, K 256 and N 64, expected positive numbers"),
    "five bits": ({"bits": 5}, "bits is 5, expected one of"),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_matrices_hold_what_their_attributes_say(name: str) -> None:
    changed, match = QUANTISED[name]
    known = {
        "x": zeros(1, 256),
        "w": zeros(64, 8, 16, dtype=np.uint8),
        "s": zeros(64, 8),
        "z": zeros(64, 4, dtype=np.uint8),
        **{"bits": 4, "block_size": 32, "K": 256, "N": 64},
        **changed,
    }
    inputs = {key: known.pop(key) for key in ("x", "w", "s", "z")}
    refused("MatMulNBits", "com.microsoft", inputs, match, **known)


ATTENTION: dict[str, tuple[dict[str, Any], str]] = {
    "rows of a mask": ({"m": zeros(63, 64)}, r"shape \[1, 1, 63, 64\], expected \[1, 4, 64, 64\]"),
    "heads of a mask": ({"m": zeros(1, 3, 64, 64)}, "expected .1, 4, 64, 64., or 1 for an axis"),
    "whole numbers": ({"m": counts(64, 64)}, "the mask is of int32, expected bool or floats"),
    "heads": ({"k": zeros(1, 3, 64, 32), "v": zeros(1, 3, 64, 32)}, "3 key heads cannot be shared"),
    "widths": ({"k": zeros(1, 4, 64, 16)}, "width of query and key must agree, found 32 and 16"),
    "tokens": ({"v": zeros(1, 4, 32, 32)}, "tokens of key and value must agree, found 64 and 32"),
    "cap": ({"softcap": -3.0}, "softcap is -3.0, expected a positive number, or 0 for none"),
    "scale": ({"scale": float("nan")}, "scale is nan, expected a finite number"),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_reads_operands_that_fit(name: str) -> None:
    changed, match = ATTENTION[name]
    known = {"x": zeros(*HEADS), "k": zeros(*HEADS), "v": zeros(*HEADS), "m": zeros(64, 64)}
    known |= changed
    inputs = {key: known.pop(key) for key in ("x", "k", "v", "m")}
    refused("Attention", "", inputs, match, **known)


MERGES: dict[str, tuple[str, dict[str, np.ndarray], dict[str, Any], str]] = {
    "few rows before": ("FrameCosine", {"p": counts(100)}, {}, r"shape \[100\], expected shape"),
    "starts of floats": ("SegmentMean", {"s": zeros(65)}, {}, "holds float16, expected int32"),
    "one start": ("SegmentMean", {"s": counts(1)}, {}, "the start of every segment and the end"),
    "negative rows": ("SegmentMean", {"s": counts(65)}, {"longest": -1}, "longest is -1"),
    "fewer others": (
        "BlendRows",
        {"l": counts(64), "h": counts(32), "w": zeros(64)},
        {},
        r"input 2 has shape \[32\], expected shape \[64\]",
    ),
    "few sources": ("SelectRows", {"c": ROWS, "s": counts(9)}, {}, r"expected shape \[256\]"),
    "narrow cache": ("SelectRows", {"c": zeros(256, 8), "s": counts(256)}, {}, "apart from axis 0"),
    "two shares": (
        "RenoiseRows",
        {"c": zeros(64, 512), "i": counts(64), "s": zeros(2)},
        {},
        r"input 3 has shape \[2\], expected shape \[1\]",
    ),
    "other sums": ("CombinePartials", {"s": zeros(255)}, {}, "without their last axis"),
}


@pytest.mark.parametrize("name", MERGES)
def test_merges_read_operands_that_fit(name: str) -> None:
    op, others, attrs, match = MERGES[name]
    refused(op, "effcompile", {"x": ROWS, **others}, match, **attrs)


@pytest.mark.parametrize(
    ("attrs", "match"),
    [
        ({"softcap": -1.0}, "softcap is -1.0"),
        ({"local_window_size": -5}, "local_window_size is -5, expected tokens, or -1 for all"),
    ],
)
def test_paged_attention_has_a_sensible_rule(attrs: dict[str, Any], match: str) -> None:
    pages = zeros(16, 2, 16, 64)
    inputs = {
        "x": zeros(2, 8, 1, 64),
        "k": pages,
        "v": pages,
        "t": counts(2, 4),
        "l": counts(2),
    }
    refused("PagedAttention", "effcompile", inputs, match, **attrs)
