"""Video tokens merged and pruned as FrameFusion does: graphs on the device, a budget on the host.

The host reads one number per merge, how many rows are left, and never a similarity. Numbers of the
worked examples: FrameFusion specification, section 2.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.effcompile.frontend.test_merge_converters import video_rows
from tests.effcompile.lowered_models import graph_model, lowered, run_lowered

ENOUGH = 0.1


def removal(removed: Sequence[float], budget: float, n_layers: int) -> float:
    """Share of the rows left that must still go, so that rows times layers meet the budget."""
    density, spent = 1.0, 0.0
    for share in removed:
        density *= 1 - share
        spent += density
    assert budget * n_layers >= spent, "the budget is spent already"
    left = (n_layers - len(removed)) * density
    return max(0.0, 1 - (budget * n_layers - spent) / left)


@dataclass
class Tokens:
    """Rows with their places in a frame (-1 for text) and their positions in the prompt."""

    rows: np.ndarray
    place: np.ndarray
    position: np.ndarray
    removed: list[float] = field(default_factory=list)
    has_merged: bool = False
    has_pruned: bool = False

    @property
    def n_visual(self) -> int:
        return int((self.place >= 0).sum())


def custom(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> Any:
    return helper.make_node(op, inputs, outputs, domain="effcompile", **attrs)


def gathered(index: str) -> list[Any]:
    return [
        helper.make_node("Gather", ["place", index], ["places"]),
        helper.make_node("Gather", ["position", index], ["positions"]),
    ]


INTEGERS = dict.fromkeys(("places", "positions", "count"), TensorProto.INT32)


def merge(tokens: Tokens, *, threshold: float, budget: float, n_layers: int) -> Tokens:
    """One merge call: the links above the threshold, but no more than the budget asks for."""
    n_rows, n_visual = len(tokens.rows), tokens.n_visual
    wanted = removal(tokens.removed, budget, n_layers)
    most = np.array([int(wanted * n_visual)], np.int32)
    nodes = [
        custom("PreviousRows", ["place"], ["previous"]),
        custom("FrameCosine", ["x", "previous"], ["cosine"]),
        custom("ChainSegments", ["cosine", "least", "previous", "most"],
               ["rows", "starts", "heads", "count"], groups=n_rows),
        custom("SegmentMean", ["x", "starts", "rows"], ["y"]),
        *gathered("heads"),
    ]  # fmt: skip
    inputs = {
        "x": tokens.rows,
        "place": tokens.place,
        "position": tokens.position,
        "least": np.array([threshold], np.float32),
        "most": most,
    }
    model = graph_model(nodes, inputs, ["y", "places", "positions", "count"], output_types=INTEGERS)
    y, place, position, count = run_lowered(lowered(model), list(inputs.values()))
    n_left = int(count[0])  # the one number that the host waits for
    share = (n_rows - n_left) / n_visual
    is_met = n_rows - n_left == int(most[0])
    return Tokens(
        rows=y[:n_left],
        place=place[:n_left],
        position=position[:n_left],
        removed=tokens.removed if is_met else [*tokens.removed, share],
        has_merged=is_met or share < ENOUGH,
        has_pruned=is_met,
    )


def prune(tokens: Tokens, importance: np.ndarray, *, budget: float, n_layers: int) -> Tokens:
    """Keep text, and the visual rows with the largest importance."""
    share = 1 - removal(tokens.removed, budget, n_layers)
    n_text = len(tokens.rows) - tokens.n_visual
    n_kept = n_text + round(tokens.n_visual * share)
    nodes = [
        helper.make_node("Less", ["place", "zero"], ["is_text"]),
        helper.make_node("Where", ["is_text", "infinity", "importance"], ["scores"]),
        custom("TopRows", ["scores", "wanted"], ["index"], groups=n_kept),
        custom("GatherRows", ["x", "index"], ["y"]),
        *gathered("index"),
    ]
    inputs = {
        "x": tokens.rows,
        "place": tokens.place,
        "position": tokens.position,
        "importance": importance,
        "wanted": np.array([n_kept], np.int32),
    }
    constants = {"zero": np.array(0, np.int32), "infinity": np.array(np.inf, np.float32)}
    model = graph_model(
        nodes, inputs, ["y", "places", "positions"], constants=constants, output_types=INTEGERS
    )
    y, place, position = run_lowered(lowered(model), list(inputs.values()))
    return Tokens(rows=y, place=place, position=position, has_merged=True, has_pruned=True)


def prompt() -> Tokens:
    """Two rows of text, four frames of three places, two rows of text."""
    text = np.array([[1, 1], [1, -1], [0, 1], [1, 0]], np.float32)
    place = np.array([-1, -1, *[0, 1, 2] * 4, -1, -1], np.int32)
    rows = np.concatenate([text[:2], video_rows(), text[2:]])
    return Tokens(rows=rows, place=place, position=np.arange(16, dtype=np.int32))


@pytest.mark.parametrize(
    ("removed", "n_layers", "expected"),
    [
        ([], 28, 0.7), ([0.4], 28, 0.5185), ([0.4, 0.12], 64, 0.4479),
        ([0.4, 0.12, 0.05], 80, 0.4208), ([0.5, 0.08], 28, 0.3779),
    ],
)  # fmt: skip
def test_budgets(removed: list[float], n_layers: int, expected: float) -> None:
    assert removal(removed, 0.3, n_layers) == pytest.approx(expected, abs=5e-5)


@pytest.mark.timeout(60)
def test_merging_until_little_is_merged_then_pruning() -> None:
    settings = {"budget": 0.5, "n_layers": 4}
    once = merge(prompt(), threshold=0.99, **settings)
    assert once.position.tolist() == [0, 1, 2, 3, 4, 7, 9, 10, 13, 14, 15]
    np.testing.assert_allclose(once.rows[2], [1.7350, 0.1999], atol=5e-5)
    np.testing.assert_allclose(once.rows[3], [0.8523, 0.5223], atol=5e-5)
    np.testing.assert_allclose(once.rows[6], [-0.5439, 0.8375], atol=5e-5)
    assert (once.removed, once.has_merged) == ([pytest.approx(5 / 12)], False)
    assert removal(once.removed, 0.5, 4) == pytest.approx(0.190476, abs=1e-6)

    twice = merge(once, threshold=0.99, **settings)
    assert (twice.removed, twice.has_merged) == ([pytest.approx(5 / 12), 0.0], True)
    assert twice.position.tolist() == once.position.tolist()
    assert removal(twice.removed, 0.5, 4) == pytest.approx(0.285714, abs=1e-6)

    importance = np.linspace(1.0, 2.0, 11).astype(np.float32)
    importance[3] = 9
    final = prune(twice, importance, **settings)
    assert final.position.tolist() == [0, 1, 3, 7, 9, 10, 13, 14, 15]
    np.testing.assert_allclose(final.rows[3], twice.rows[5], atol=1e-6)


@pytest.mark.timeout(60)
def test_a_budget_that_merging_alone_meets() -> None:
    found = merge(prompt(), threshold=0.99, budget=0.7, n_layers=4)
    assert found.position.tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10, 12, 13, 14, 15]
    np.testing.assert_allclose(found.rows[2], [1.4976, 0.0698], atol=5e-5)
    np.testing.assert_allclose(found.rows[6], [1.9723, 0.3301], atol=5e-5)
    assert (found.removed, found.has_pruned) == ([], True)


@pytest.mark.timeout(60)
def test_a_static_video_keeps_exactly_its_budget() -> None:
    frame = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
    rows, place = np.tile(frame, (20, 1)), np.tile(np.arange(21, dtype=np.int32), 20)
    video = Tokens(rows=rows, place=place, position=np.arange(420, dtype=np.int32))
    found = merge(video, threshold=0.6, budget=0.3, n_layers=28)
    assert len(found.rows) == 420 - int(0.7 * 420)
    np.testing.assert_allclose(found.rows[:21], frame, atol=1e-6)
