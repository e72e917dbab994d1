"""Small ragged problems of every kernel family: tools that watch every access are 10 to 100 times
slower than the kernels."""

from __future__ import annotations

from collections.abc import Callable

from schedules.attention_decode import AttentionDecodeSpace
from schedules.families import own_spaces
from schedules.headwise_problem import ARROW, FULL, SKIP
from schedules.integer_softmax_problem import DEFERRED
from schedules.judged_space import JudgedSpace
from schedules.knobs import KnobSpace
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules import (
    elementwise_workloads,
    head_norm_workloads,
    integer_softmax_workloads,
    merge_workloads,
    norm_workloads,
    softmax_workloads,
)
from tests.schedules.conv_workloads import Conv, conv_workload
from tests.schedules.decode_workloads import Decode
from tests.schedules.gemv_workloads import gemv_workload
from tests.schedules.headwise_workloads import Headwise
from tests.schedules.importance_workloads import Importance
from tests.schedules.masked_workloads import lowered_attention, lowered_frames
from tests.schedules.products import Product, product_workload

Problems = dict[str, Callable[[], Workload]]
ANY_TIME = 1e9
MIXED = ((ARROW, 128), (FULL, 0), (SKIP, 0), (ARROW, 0), (ARROW, 70), (ARROW, 10_000))
BIASED = {"zeros": True, "bias": True}


def space_of(family: str, workload: Workload, target: Target) -> KnobSpace:
    """The family's space of a problem with all points that can run, however slow."""
    spaces = {one.name: one for one in own_spaces(Task(workload=workload, target=target))}
    if family not in spaces:
        raise ValueError(f"{family} does not cover {workload.name}: expected one of {[*spaces]}.")
    space = spaces[family]
    if isinstance(space, JudgedSpace | AttentionDecodeSpace):
        space.patience = ANY_TIME
    return space


def tokens(**more: object) -> Callable[[], Workload]:
    """Attention of two heads, ragged."""
    shape = {"heads": 2, "kv_heads": 2, "queries": 130, "keys": 203, "width": 64} | more
    return Decode(**shape).workload  # type: ignore[arg-type]


def rows(*sizes: object, **more: object) -> Callable[[], Workload]:
    """Rows times a packed matrix: rows, columns, depth, bits, block."""
    return lambda: gemv_workload(*sizes, **more)  # type: ignore[arg-type]


def product(m: int, n: int, k: int, **more: object) -> Callable[[], Workload]:
    """A matrix product."""
    return lambda: product_workload(Product(m=m, n=n, k=k, **more))  # type: ignore[arg-type]


def conv(
    height: int, width: int, channels: int, filters: int, **more: object
) -> Callable[[], Workload]:
    """A convolution, channels last."""
    made = Conv(height=height, width=width, channels=channels, filters=filters, **more)  # type: ignore[arg-type]
    return lambda: conv_workload(made)


def listed(module: object, *names: str) -> Problems:
    """Some of a family's small workloads."""
    return {name: lambda name=name: module.small_workloads()[name] for name in names}  # type: ignore[attr-defined]


def _softmax() -> Problems:
    return {
        "short rows": lambda: softmax_workloads.plain((3, 5, 17), "float16", scale=0.7),
        "ragged rows": lambda: softmax_workloads.plain((9, 1025), "bfloat16"),
        "log, rows over blocks": lambda: softmax_workloads.plain((2, 20001), "float32", log=True),
        "mask": lambda: softmax_workloads.masked((2, 3, 10, 77), (2, 1, 1, 77), "float16"),
    }


def _integer_softmax() -> Problems:
    snapped = integer_softmax_workloads.SNAPPED
    return {
        **listed(integer_softmax_workloads, "polynomial", "8 bits", "snapped", "power of two"),
        **listed(integer_softmax_workloads, "deferred", "integer scores"),
        "long rows": lambda: integer_softmax_workloads.integer_softmax(
            (2, 4001), "float32", output=DEFERRED, **snapped
        ),
    }


def _decode() -> Problems:
    def few(
        heads: int, kv_heads: int, keys: int, width: int, **more: object
    ) -> Callable[[], Workload]:
        return tokens(
            heads=heads, kv_heads=kv_heads, keys=keys, width=width, **{"queries": 1} | more
        )

    cache = {"causal": True, "at_end": True}
    return {
        "few keys": few(3, 3, 5, 32),
        "ragged, grouped": few(8, 1, 300, 128, batch=2),
        "width 72, bfloat16": few(4, 2, 333, 72, dtype="bfloat16"),
        "queries of a cache": few(4, 2, 301, 64, queries=3, batch=3, lengths="int64", **cache),
        "window and cap": few(4, 2, 500, 64, queries=2, window_left=99, softcap=4.0, **cache),
        "tree": few(4, 2, 211, 64, queries=15, mask=((1, 1, 15, 211), "bool")),
        "added mask": few(
            4, 2, 210, 40, queries=3, value_width=24, mask=((1, 4, 3, 210), "float32")
        ),
        "pages": few(8, 2, 256, 128, batch=2, lengths="int32", page=16, dtype="bfloat16", **cache),
    }


def _masked() -> Problems:
    grouped = {"heads": 4, "queries": 50, "keys": 300}
    window = {"causal": True, "at_end": True, "window_left": 70, "lengths": "int32", "batch": 2}
    return {
        "frames": lambda: lowered_frames([100, 37, 130]),
        "frames, 128": lambda: lowered_frames([65, 1, 140], width=128, dtype="bfloat16"),
        "blocks of the call": lambda: lowered_attention(
            "BlockSparseAttention", 201, width=72, also=((1, 2, 4, 4), "bool")
        ),
        "packed": lambda: lowered_attention("PackedAttention", 166, also=((5,), "int32")),
        "tree": tokens(**grouped, mask=((1, 1, 50, 300), "bool"), dtype="bfloat16"),
        "added": tokens(keys=333, width=128, mask=((1, 2, 130, 333), "float16")),
        "lengths": tokens(**grouped, **window),
    }


def _mma() -> Problems:
    return {
        "ragged, 128": tokens(width=128, batch=2),
        "causal, width 72": tokens(queries=201, width=72, dtype="bfloat16", causal=True),
        "lengths": tokens(batch=2, lengths="int64", causal=True, at_end=True),
        "added mask": tokens(keys=301, mask=((1, 2, 130, 301), "float16")),
        "frames": lambda: lowered_frames([100, 37, 130]),
        "packed": lambda: lowered_attention("PackedAttention", 166, also=((5,), "int32")),
    }


PROBLEMS: dict[str, Problems] = {
    "softmax": _softmax(),
    "integer_softmax": _integer_softmax(),
    "attention_decode": _decode(),
    "attention": {
        "ragged, 128": tokens(heads=4, width=128, dtype="bfloat16"),
        "causal": tokens(queries=201, keys=201, causal=True),
        "window, width 72": tokens(keys=333, width=72, window_left=50, window_right=37),
        "many tiles": tokens(heads=40, kv_heads=40, queries=300, keys=130),
    },
    "attention_masked": _masked(),
    "attention_mma": _mma(),
    "attention_simt": {
        "ragged": tokens(dtype="float32", queries=33, keys=130, batch=2),
        "causal, width 72": tokens(dtype="float32", queries=101, keys=101, width=72, causal=True),
        "narrow window": tokens(dtype="float32", queries=70, keys=99, width=20, window_left=50),
    },
    "headwise_attention": {
        "ragged": lambda: Headwise(image=200, text=37, modes=MIXED).task().workload,
        "text first, cache": lambda: (
            Headwise(image=200, text=37, modes=MIXED, text_first=True, cached=True, width=128)
            .task()
            .workload
        ),
        "modes of the call": lambda: (
            Headwise(image=130, text=70, modes=MIXED, known=False, dtype="bfloat16").task().workload
        ),
    },
    "last_row_importance": {
        "ragged": lambda: Importance(heads=6, kv_heads=2, keys=301, queries=3).task().workload,
        "few keys": lambda: Importance(heads=4, kv_heads=4, keys=7, width=64).task().workload,
        "width 72": lambda: (
            Importance(heads=4, kv_heads=2, keys=500, width=72, dtype="bfloat16", batch=2)
            .task()
            .workload
        ),
    },
    "gemv_dequant": {
        "4 bits": rows(1, 100, 1024, 4, 128, dtype="bfloat16"),
        "3 bits, ragged": rows(3, 100, 520, 3, 64, **BIASED),
        "2 bits, many rows": rows(40, 100, 520, 2, 32, **BIASED),
        "8 bits, one block": rows(20, 64, 777, 8, 777),
        "gated": rows(3, 41, 300, 4, 32, gated=True, activation="silu", **BIASED),
        "three outputs": rows(3, (40, 16, 7), 128, 4, 64, dtype="bfloat16", bias=True),
        "whole numbers": rows(3, 100, 123, 8, 32, dtype="float32", x_scales="row", residual=True),
    },
    "gemm_dequant": {
        "4 bits": rows(17, 64, 128, 4, 64),
        "3 bits, ragged": rows(100, 200, 264, 3, 64, dtype="bfloat16", activation="silu", **BIASED),
        "three outputs": rows(70, (100, 64, 40), 264, 4, 264, bias=True),
        "float32": rows(128, 100, 264, 8, 264, dtype="float32", residual=True),
    },
    "gemm_fused": {
        "4 bits": rows(17, 64, 128, 4, 64),
        "8 bits, ragged": rows(100, 200, 264, 8, 264, residual=True, activation="gelu_tanh"),
        "3 bits, gated": rows(70, 40, 520, 3, 64, dtype="bfloat16", gated=True, zeros=True),
        "2 bits, deep": rows(33, 24, 1024, 2, 32, **BIASED),
        "three outputs": rows(70, (100, 64, 40), 264, 4, 264, bias=True),
    },
    "merge": {name: lambda name=name: merge_workloads.small_workloads()[name]
              for name in ("cosine by places", "cosine by list", "mean by list", "mean in order",
                           "gather", "blend", "renoise", "select", "partials")},
    "row_norm": listed(
        norm_workloads, "layer of odd rows", "layer, modulated", "rms of a sum that stays",
        "layer of places, modulated",
    ),
    "head_norm": listed(
        head_norm_workloads, "halves", "halves, float32", "pairs, text first",
        "pairs of image only", "heads side by side", "slice alone", "beside plain rows",
        "gathered angles",
    ),
    "chain_segments": {
        "ragged": lambda: merge_workloads.chains(67, 6, 20),
        "listed and limited": lambda: merge_workloads.chains(83, 6, 40, listed=True, limited=True),
    },
    "top_rows": {"best": lambda: merge_workloads.best(67, 30)},
    "elementwise": listed(
        elementwise_workloads, "swiglu of halves", "gelu, tanh", "odd", "padding",
        "rope of three axes", "rope node", "heads side by side",
    ),
    "conv": {
        "three by three": conv(13, 9, 64, 72),
        "stride, residual": conv(15, 11, 64, 30, images=3, stride=2, ending="residual"),
        "five by five, bfloat16": conv(
            13, 17, 16, 48, kernel=5, padding=(2, 2, 2, 2), dtype="bfloat16"
        ),
        "deep": conv(7, 7, 256, 64, images=3, ending="float32"),
    },
    "conv_windows": {
        "residual": conv(
            15, 30, 4, 40, images=3, kernel=4, stride=2, padding=(1, 0, 2, 0), ending="residual"
        ),
        "two parts of a row": conv(9, 142, 4, 64, kernel=8, stride=2, padding=(3, 0, 4, 0)),
    },
    "matmul_rows": {
        "ragged": product(13, 520, 1096, ending="gelu"),
        "rows of b": product(3, 77, 136, layout="nt", ending="gelu"),
        "batches": product(4, 72, 200, layout="nt", batch=3, ending="float32", dtype="bfloat16"),
    },
    "matmul": {
        "ragged": product(200, 136, 328, ending="gelu"),
        "transposed": product(136, 200, 520, layout="tt", dtype="bfloat16"),
        "deep": product(72, 264, 2056, layout="nt", ending="silu"),
        "batches": product(72, 136, 200, layout="tn", batch=3, ending="float32"),
    },
    "matmul_mma": {
        "fours": product(132, 204, 332, ending="gelu"),
        "pairs": product(134, 206, 334, layout="nt"),
        "single": product(77, 131, 333, layout="tn", dtype="bfloat16", ending="silu"),
        "batches": product(72, 136, 200, layout="tt", batch=3, shared_b=True),
    },
    "matmul_simt": {
        "ragged": product(77, 131, 130, dtype="float32", ending="gelu"),
        "tiny": product(7, 5, 3, dtype="float32"),
        "one row": product(1, 300, 777, dtype="float32", layout="nt"),
        "batches": product(37, 102, 90, dtype="float32", layout="tt", batch=2, ending="silu"),
    },
}  # fmt: skip
"""Problems by the name of the family's space."""
