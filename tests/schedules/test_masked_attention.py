"""Masked attention without a GPU: blocks of masks, the front end, what is covered and built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.errors import BadModel
from effcompile.export import export_module
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.frontend.kernels.attention_rule import AttentionRule
from effcompile.frontend.kernels.mask_blocks import window_rule
from effcompile.lower import lower
from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from effcompile.torch_ops import block_sparse_attention, frame_causal_attention, packed_attention
from schedules.attention_hopper import shared_bytes
from schedules.inputs import make_inputs
from schedules.mask_tiles import (
    MaskTiles,
    mask_tiles,
)
from schedules.masked_attention import MaskedAttentionSpace, masked_attention_space
from schedules.masked_attention_cuda import query_order, tile_lengths
from schedules.program_reference import run_program
from schedules.references.attention import reference
from schedules.spaces import spaces_for
from schedules.target import known_target
from schedules.workload import Workload
from tests.effcompile.lowered_models import lowered, run_lowered
from tests.schedules.attention_points import MASKED_POINT
from tests.schedules.masked_workloads import (
    MASKS,
    Masked,
    blocks,
    dense,
    frames,
    packed,
    sliding,
    tree,
)
from tests.schedules.test_attention import FEW_SPILLS, H200


@pytest.mark.parametrize("form", ["tiles", "bool", "float"])
@pytest.mark.parametrize("name", MASKS)
def test_the_reference_is_softmax_under_the_mask(name: str, form: Any) -> None:
    mask = MASKS[name]
    case = Masked(
        mask=mask,
        form=form,
        batch=2,
        heads=3,
        width=8,
        dtype="float32",
        mask_dtype="float32",
        queries=0 if mask.shape[2] > 1 else 90,
    )
    inputs = case.inputs(seed=0)
    query, key, value = (x.astype(np.float64) for x in inputs[:3])
    scores = query @ key.swapaxes(2, 3) * 8**-0.5
    if form == "float":
        scores += np.where(mask, inputs[3], 0.0)
    weights = np.exp(scores) * mask
    total = weights.sum(-1, keepdims=True)
    (found,) = reference(case.workload(), inputs)
    expected = weights @ value / np.where(total, total, 1)
    # Masks are added in float32.
    np.testing.assert_allclose(found.values, expected, rtol=1e-6, atol=1e-6)
    assert name != "blocks" or (found.values[total[..., 0] == 0] == 0).all()


class Attend(nn.Module):
    """Standard attention under a constant mask."""

    def __init__(self, mask: np.ndarray, form: str) -> None:
        super().__init__()
        self.form = form
        seen = torch.from_numpy(mask)
        lowest = -torch.inf if form == "infinite" else torch.finfo(torch.float16).min
        self.register_buffer("mask", seen if form == "bool" else torch.where(seen, 0.0, lowest))

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        mask = self.mask if self.form == "bool" else self.mask.to(query.dtype)
        if self.form == "written_out":
            scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5 + mask
            return torch.softmax(scores, -1) @ value
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def workload_of(model: Any) -> Workload:
    (found,) = extract_tasks(lower({"main": prepare_model(model)}, H200), H200)
    assert spaces_for(found.task)[0] == "attention_masked"
    return found.task.workload


@pytest.mark.parametrize("form", ["bool", "lowest", "written_out"])
def test_a_constant_mask_of_a_torch_module_becomes_blocks(form: str) -> None:
    mask = packed([50, 70, 60])
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    layer = Attend(mask, form)
    workload = workload_of(export_module(layer, tokens))
    assert workload.attrs["mask"] == "tiles"
    inputs = make_inputs(workload, seed=0)
    np.testing.assert_array_equal(dense(MaskTiles(*inputs[3:]), 180, 180), mask)
    (wanted,) = reference(workload, [*(x.numpy() for x in tokens), *inputs[3:]])
    np.testing.assert_allclose(layer(*tokens).numpy(), wanted.values, atol=4e-3)


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        (np.tri(50, dtype=bool), AttentionRule(causal=True)),
        (np.tri(20, 50, 30, dtype=bool), AttentionRule(causal=True, offset=30)),
        (sliding(90, 7)[0, 0], AttentionRule(causal=True, offset=7, window_left=14)),
        (np.ones((20, 50), bool), AttentionRule()),
        (np.ones((1, 50), bool), AttentionRule()),
        (packed([20, 30])[0, 0], None),
        (frames([20, 30])[0, 0], None),
        (np.tri(50, k=-1, dtype=bool), None),
    ],
    ids=["causal", "cache", "window", "all", "all_keys", "packed", "frames", "empty_row"],
)
def test_masks_of_positions_become_rules(pairs: np.ndarray, rule: AttentionRule | None) -> None:
    plain = AttentionRule(scale=0.5, softcap=3.0)
    wanted = rule and replace(rule, scale=0.5, softcap=3.0)
    assert window_rule(pairs[None, None], plain, max(len(pairs), 20)) == wanted


def test_a_constant_causal_mask_needs_no_mask() -> None:
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    model = prepare_model(
        export_module(Attend(np.tri(180, dtype=bool)[None, None], "bool"), tokens)
    )
    (found,) = extract_tasks(lower({"main": model}, H200), H200)
    assert spaces_for(found.task)[0] == "attention"
    assert found.task.workload.attrs["causal"] and len(found.task.workload.inputs) == 3


def test_a_mask_that_adds_numbers_stays_one_of_numbers() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("bias", torch.randn(180, 180).half())

        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return scaled_dot_product_attention(q, k, v, attn_mask=self.bias)

    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    assert workload_of(export_module(Biased(), tokens)).attrs["mask"] == "float"


class Frames(nn.Module):
    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return frame_causal_attention(query, key, value, [40, 50, 60])


class Blocks(nn.Module):
    def __init__(self, blocks: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("blocks", blocks)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return block_sparse_attention(query, key, value, self.blocks, block=128, scale=0.2)


class BlocksOfTheCall(nn.Module):
    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: torch.Tensor
    ) -> torch.Tensor:
        return block_sparse_attention(query, key, value, blocks, block=128)


class Packed(nn.Module):
    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        return packed_attention(query, key, value, starts, causal=True)


def test_torch_operators_compute_the_same_on_a_cpu() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 150, 16) for heads in (4, 2, 2))
    starts = torch.tensor([0, 30, 30, 110, 150], dtype=torch.int32)
    live = torch.tensor([[[[True, False], [False, False]]]])
    for layer, given in (
        (Frames(), (query[:, :, 30:], key, value)),
        (Packed(), (query, key, value, starts)),
        (Blocks(live), (query, key, value)),
        (BlocksOfTheCall(), (query, key, value, live)),
    ):
        (found,) = run_lowered(lowered(export_module(layer, given)), [x.numpy() for x in given])
        np.testing.assert_allclose(found, layer(*given).numpy(), rtol=1e-4, atol=1e-5)
    assert (found[:, :, 128:] == 0).all() and (found[:, :, :128] != 0).any()


@pytest.mark.parametrize("form", ["tiles", "bool", "float"])
def test_the_program_is_the_reference(form: Any) -> None:
    """Through ONNX, so that the program is the front end's."""
    from onnx import TensorProto, helper

    case = Masked(mask=blocks(70, 100), form=form, width=16, dtype="float32", mask_dtype="float32")
    inputs = case.inputs(seed=0)
    shapes = {name: x.shape for name, x in zip("qkv", inputs[:3], strict=True)}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    kind = TensorProto.FLOAT if form == "float" else TensorProto.BOOL
    mask = inputs[3] if form == "float" else case.mask
    stored = []
    if form == "tiles":
        stored.append(numpy_helper.from_array(mask, "mask"))
    else:
        values.append(helper.make_tensor_value_info("mask", kind, mask.shape))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["q"])
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
    graph = helper.make_graph([node], "masked", values, [result], initializer=stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    (found,) = extract_tasks(lower({"main": prepare_model(model)}, H200), H200)
    assert found.task.workload.attrs["mask"] == form
    (got,) = run_program(found.task.workload, inputs)
    (wanted,) = reference(case.workload(), inputs)
    np.testing.assert_allclose(got, wanted.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("FrameCausalAttention", {"frame_lengths": [10, 20]}, "sum is the number of"),
        ("FrameCausalAttention", {"frame_lengths": [100, 0]}, "positive numbers"),
        ("BlockSparseAttention", {"block": 32}, "multiple of 64"),
        ("BlockSparseAttention", {"block": 128}, r"\(1 or 1, 1 or 2, 1, 1\)"),
        ("BlockSparseAttention", {"scale": -1.0}, "positive number"),
    ],
)
def test_bad_attributes_are_refused(op: str, attrs: dict[str, Any], message: str) -> None:
    tokens = ((1, 2, 100, 64), "float16")
    model = custom_model(op, dict.fromkeys("qkv", tokens), {"y": tokens}, **attrs)
    if op == "BlockSparseAttention":
        model.graph.node[0].input.append("blocks")
        stored = numpy_helper.from_array(np.ones((1, 1, 2, 2), bool), "blocks")
        model.graph.initializer.append(stored)
    with pytest.raises(BadModel, match=message):
        lowered(model)


@pytest.mark.parametrize(
    ("case", "covered"),
    [
        (Masked(mask=tree(33, 500), form="bool"), True),
        (Masked(mask=tree(256, 500), form="bool", kv_heads=1), True),
        (Masked(mask=tree(32, 500), form="bool"), False),
        (Masked(mask=np.ones((1, 1, 64, 4096), bool), form="none"), True),
        (Masked(mask=np.ones((1, 1, 64, 1024), bool), form="none"), False),
        (Masked(mask=np.ones((1, 1, 256, 4096), bool), form="none", heads=40), False),
        (Masked(mask=frames([100]), width=80), True),
        (Masked(mask=frames([100]), width=256), True),
        (Masked(mask=frames([100]), width=20), False),
        (Masked(mask=frames([100]), dtype="float32"), False),
    ],
    ids=[
        "33",
        "256",
        "few_queries",
        "plain",
        "few_keys",
        "enough_tiles",
        "width_80",
        "width_256",
        "odd_pitch",
        "float32",
    ],
)
def test_what_is_covered(case: Masked, covered: bool) -> None:
    assert (masked_attention_space(case.task()) is not None) == covered


@pytest.mark.parametrize(
    ("target", "first"), [("h200", "attention_masked"), ("a100", "attention_mma")]
)
def test_blocks_have_a_family_on_every_generation(target: str, first: str) -> None:
    tokens = tuple(torch.randn(1, 2, 180, 64, dtype=torch.float16) for _ in range(3))
    model = prepare_model(export_module(Attend(packed([50, 70, 60]), "bool"), tokens))
    chosen = known_target(target)
    (found,) = extract_tasks(lower({"main": model}, chosen), chosen)
    assert spaces_for(found.task)[0] == first


def test_tiles_with_most_blocks_come_first() -> None:
    space = MaskedAttentionSpace(Masked(mask=frames([300, 300, 300])).task())
    schedule = space.schedule(MASKED_POINT)
    lengths = tile_lengths(mask_tiles(frames([300, 300, 300])), 2)[0, 0]
    order = query_order(space._masked, schedule)
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all() and lengths.sum() < 8 * 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "changed"),
    [
        (Masked(mask=frames([500] * 4), width=128, dtype="bfloat16"), {"order": "longest_first"}),
        (
            Masked(mask=frames([500] * 4), width=512),
            {"key_tile": 64, "stages": 1, "products": "in_turn"},
        ),
        (
            Masked(mask=tree(200, 1000), form="float", kv_heads=1, attrs={"softcap": 20.0}),
            {"key_tile": 64, "splits": 2},
        ),
    ],
    ids=["128", "512", "float"],
)
def test_points_build_and_can_launch(
    case: Masked, changed: dict[str, int | str], tmp_path: Path
) -> None:
    space, values = masked_attention_space(case.task()), MASKED_POINT | changed
    assert isinstance(space, MaskedAttentionSpace) and space.refusal(values) is None
    maker = LibraryMaker(
        target=H200, cache=DiskCache(tmp_path / "cache"), folder=tmp_path, fast_math=True
    )
    made = maker.make(space.program_module(values), flops=None, unique_bytes=None)
    kernel = max(made.stats.kernels, key=lambda kernel: kernel.dynamic_shared_bytes)
    schedule = space.schedule(values)
    wanted = shared_bytes(space._problem, schedule, plan_bytes=space.plan_bytes(schedule))
    assert kernel.spill_bytes <= FEW_SPILLS
    assert kernel.dynamic_shared_bytes == wanted <= H200.shared_memory_per_block_bytes
    # Where the compiler cannot see that lanes agree, it makes products wait for each other.
    assert maker._compiler is not None
    assert "serialized" not in maker._compiler.compiled[-1].log


def test_a_mask_of_its_own_makes_a_task_of_its_own() -> None:
    case = Masked(mask=frames([100, 100]))
    other = replace(case, mask=packed([100, 100]))
    assert case.workload().workload_id != other.workload().workload_id
