"""Operators that merge rows, from ONNX to numbers, with hand-worked and published examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.errors import BadModel
from tests.effcompile.lowered_models import graph_model, lowered, operators, run_lowered


def run(op_type: str, inputs: dict[str, np.ndarray], shapes: list[Any], **attrs: Any) -> list[Any]:
    """The outputs of a model of one node; all float32 outputs."""
    given = {name: (array.shape, array.dtype.name) for name, array in inputs.items()}
    outputs = {f"y{i}": (tuple(shape), "float32") for i, shape in enumerate(shapes)}
    program = lowered(custom_model(op_type, given, outputs, **attrs))
    assert len(operators(program)) == 1
    return run_lowered(program, list(inputs.values()))


def video_rows() -> np.ndarray:
    """Four frames of three places, as magnitude and degrees."""
    polar = [(1, 0), (1, 30), (1, 0), (2, 4), (1, 33), (1, 90)]
    polar += [(3, 9), (1, 120), (1, 180), (1, 11), (1, 126), (1, 270)]
    radians = [(length, np.deg2rad(angle)) for length, angle in polar]
    return np.array([(r * np.cos(a), r * np.sin(a)) for r, a in radians], dtype=np.float32)


def test_frame_cosine_finds_the_links_of_the_published_example() -> None:
    (found,) = run("FrameCosine", {"x": video_rows()}, [(12,)], places=3)
    degrees = [4, 3, 90, 5, 87, 90, 2, 6, 90]
    expected = [-2.0] * 3 + [float(np.cos(np.deg2rad(each))) for each in degrees]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert int((found >= 0.99).sum()) == 5


def test_frame_cosine_by_list_of_predecessors() -> None:
    rows = video_rows()
    before = np.array([-1, -1, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8], np.int32)
    (found,) = run("FrameCosine", {"x": rows, "previous": before}, [(12,)])
    (expected,) = run("FrameCosine", {"x": rows}, [(12,)], places=3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def merging_model(rows: np.ndarray, groups: int) -> Any:
    """Cosines, chains and means in one graph, as a video model would merge its tokens."""
    nodes = [
        ("FrameCosine", ["x"], ["cosine"], {"places": 3}),
        ("ChainSegments", ["cosine", "least"], ["rows", "starts", "heads", "count"],
         {"places": 3, "groups": groups}),
        ("SegmentMean", ["x", "starts", "rows"], ["merged"], {"longest": 4}),
    ]  # fmt: skip
    made = [
        helper.make_node(op, names, outs, domain="effcompile", **attrs)
        for op, names, outs, attrs in nodes
    ]
    least = {"least": np.array([0.99], np.float32)}
    types = {"heads": TensorProto.INT32, "count": TensorProto.INT32}
    return graph_model(
        made, {"x": rows}, ["merged", "heads", "count"], constants=least, output_types=types
    )


def test_a_graph_merges_the_published_example_without_leaving_the_device() -> None:
    rows = video_rows()
    merged, heads, count = run_lowered(lowered(merging_model(rows, 9)), [rows])
    assert count.tolist() == [7]
    assert heads.tolist() == [0, 1, 2, 5, 7, 8, 11, -1, -1]
    np.testing.assert_allclose(merged[0], [1.7350, 0.1999], atol=5e-5)
    np.testing.assert_allclose(merged[1], [0.8523, 0.5223], atol=5e-5)
    np.testing.assert_allclose(merged[4], [-0.5439, 0.8375], atol=5e-5)
    np.testing.assert_allclose(merged[2], rows[2], atol=1e-6)
    assert (merged[7:] == 0).all()


def test_segments_without_room_are_counted() -> None:
    rows = video_rows()
    merged, heads, count = run_lowered(lowered(merging_model(rows, 5)), [rows])
    assert (count.tolist(), heads.tolist()) == ([7], [0, 1, 2, 5, 7])
    np.testing.assert_allclose(merged[4], [-0.5439, 0.8375], atol=5e-5)


def test_segment_mean_merges_the_published_example() -> None:
    # Chains {0, 3, 6, 9}, {1, 4}, {7, 10}; the other rows stay. Results in sequence order.
    chains = [[0, 3, 6, 9], [1, 4], [2], [5], [7, 10], [8], [11]]
    rows = np.array([row for chain in chains for row in chain], np.int32)
    starts = np.cumsum([0] + [len(chain) for chain in chains]).astype(np.int32)
    inputs = {"x": video_rows(), "starts": starts, "rows": rows}
    (found,) = run("SegmentMean", inputs, [(7, 2)], longest=4)
    np.testing.assert_allclose(found[0], [1.7350, 0.1999], atol=5e-5)
    np.testing.assert_allclose(found[1], [0.8523, 0.5223], atol=5e-5)
    np.testing.assert_allclose(found[4], [-0.5439, 0.8375], atol=5e-5)
    np.testing.assert_allclose(found[2], [1, 0], atol=1e-6)


def test_segment_mean_pools_and_blend_expands_a_chunk() -> None:
    values = np.arange(17, dtype=np.float32).reshape(1, 17, 1)
    starts = np.array([0, 1, 5, 9, 13, 17], np.int32)
    (pooled,) = run("SegmentMean", {"x": values, "starts": starts}, [(1, 5, 1)], axis=1)
    assert pooled.ravel().tolist() == [0, 2.5, 6.5, 10.5, 14.5]
    held = np.array([0, *(1 + i // 4 for i in range(16))], np.int32)
    (expanded,) = run("GatherRows", {"x": pooled, "index": held}, [(1, 17, 1)], axis=1)
    assert expanded.ravel().tolist() == [0] + [
        each for each in (2.5, 6.5, 10.5, 14.5) for _ in "abcd"
    ]
    (again,) = run("SegmentMean", {"x": expanded, "starts": starts}, [(1, 5, 1)], axis=1)
    assert again.tolist() == pooled.tolist()


def test_blend_restores_frames_between_kept_ones() -> None:
    kept = np.array([[0.0, 10.0], [4.0, 20.0]], np.float32)
    low, high = np.array([0, 0, 0, 0, 1], np.int32), np.array([1, 1, 1, 1, 1], np.int32)
    weight = np.array([0, 0.25, 0.5, 0.75, 0], np.float32)
    inputs = {"x": kept, "low": low, "high": high, "weight": weight}
    (found,) = run("BlendRows", inputs, [(5, 2)])
    assert found.tolist() == [[0, 10], [1, 12.5], [2, 15], [3, 17.5], [4, 20]]


def test_rows_without_weight_may_hold_anything() -> None:
    x = np.array([[1.0], [np.nan]], np.float32)
    low, high = np.zeros(1, np.int32), np.ones(1, np.int32)
    inputs = {"x": x, "low": low, "high": high, "weight": np.zeros(1, np.float32)}
    (found,) = run("BlendRows", inputs, [(1, 1)])
    assert found.tolist() == [[1.0]]


def test_renoise_mixes_kept_noise_into_clean_latents() -> None:
    noise = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    clean = np.full((2, 2, 1), 10.0, np.float32)
    inputs = {
        "noise": noise,
        "clean": clean,
        "index": np.array([0, 3], np.int32),
        "sigma": np.array([0.25], np.float32),
    }
    (found,) = run("RenoiseRows", inputs, [(2, 2, 1)], axis=1)
    assert found.ravel().tolist() == [7.5, 8.25, 8.5, 9.25]


def test_select_takes_cached_heads() -> None:
    fresh = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    cache = 100 + np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    inputs = {"fresh": fresh, "cache": cache, "source": np.array([-1, 0, -1, 1], np.int32)}
    (found,) = run("SelectRows", inputs, [(1, 4, 2)], axis=1)
    assert found.tolist() == [[[0, 1], [100, 101], [4, 5], [102, 103]]]


def test_partials_combine_to_the_whole_softmax() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(3, 12)), rng.normal(size=(12, 4))
    raised = np.exp(scores)
    whole = raised @ values / raised.sum(1, keepdims=True)
    parts, sums = [], []
    for keys in (slice(0, 5), slice(5, 12)):
        total = raised[:, keys].sum(1, keepdims=True)
        parts.append(raised[:, keys] @ values[keys] / total)
        sums.append(np.log(total[:, 0]))
    # A part without keys may hold anything.
    parts.append(np.full((3, 4), np.nan))
    sums.append(np.full(3, -np.inf))
    inputs = {
        "parts": np.stack(parts).astype(np.float32),
        "sums": np.stack(sums).astype(np.float32),
    }
    found, lse = run("CombinePartials", inputs, [(3, 4), (3,)])
    np.testing.assert_allclose(found, whole, atol=1e-6)
    np.testing.assert_allclose(lse, np.log(raised.sum(1)), atol=1e-6)


def test_indices_outside_move_to_the_nearest_row() -> None:
    x = np.array([[1.0], [2.0], [3.0]], np.float32)
    index = np.array([-5, 1, 99], np.int32)
    (found,) = run("GatherRows", {"x": x, "index": index}, [(3, 1)])
    assert found.ravel().tolist() == [1, 2, 3]


def test_missing_places_are_explained() -> None:
    with pytest.raises(BadModel, match="either the attribute places"):
        run("FrameCosine", {"x": video_rows()}, [(12,)])
