"""Networks whose channels are put last: the same outputs, few transposes, tasks for the family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from effcompile.export import export_module
from effcompile.extract import extract
from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, lower
from schedules.spaces import spaces_for
from schedules.target import known_target
from tests.effcompile.lowered_models import graph_model, run_lowered

H100 = known_target("h100")

pytestmark = pytest.mark.timeout(120)


def on_hopper(model: Any) -> LoweredProgram:
    return lower({"main": prepare_model(model)}, H100)


def calls(program: LoweredProgram) -> list[str]:
    """Names of the functions that the network calls, in order."""
    _, found = [], []
    for line in str(program.module["main"]).splitlines():
        if "R.call_tir(" in line:
            found.append(line.split("R.call_tir(")[1].split(",")[0].removeprefix("cls."))
    return found


def from_torch(module: nn.Module, *inputs: torch.Tensor) -> tuple[LoweredProgram, Any, Any]:
    """A module in half precision: its program, what that computes, and what torch does."""
    module = module.half().eval()
    program = on_hopper(export_module(module, tuple(one.half() for one in inputs)))
    found = run_lowered(program, [one.half().numpy() for one in inputs])
    with torch.no_grad():
        wanted = module.float()(*(one.half().float() for one in inputs))
    return program, found[0].astype(np.float32), wanted.numpy()


def close(found: Any, wanted: Any) -> None:
    scale = float(np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-2 * scale)


class Residual(nn.Module):
    """Stem, a basic block, a strided block with a shortcut, a classifier: a small ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.one, self.two = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(16, 32, 1, stride=2)
        self.classifier = nn.Linear(32, 10)
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        x = torch.relu(self.down(x) + self.shortcut(x))
        return self.classifier(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def residual() -> tuple[LoweredProgram, Any, Any]:
    torch.manual_seed(0)
    return from_torch(Residual(), torch.randn(2, 3, 37, 40))


def test_a_residual_network_computes_the_same(residual: tuple[Any, Any, Any]) -> None:
    _, found, wanted = residual
    close(found, wanted)


def test_the_family_serves_every_convolution_of_it(residual: tuple[Any, Any, Any]) -> None:
    program, _, _ = residual
    extraction = extract(program, H100)
    convolutions = [one.task for one in extraction.tasks if "conv2d" in one.task.workload.name]
    assert sorted(spaces_for(task)[0] for task in convolutions) == ["conv"] * 4 + ["conv_windows"]
    assert [name for name in calls(program) if "transpose" in name] == ["fused_transpose_pad"]


def test_other_devices_keep_channels_first() -> None:
    model = convolution((1, 16, 12, 12), 16)
    shapes = {
        target: [tuple(one.task.workload.inputs[0].shape) for one in tasks]
        for target in ("h100", "a100")
        for tasks in [
            extract(lower({"main": prepare_model(model)}, known_target(target)), H100).tasks
        ]
    }
    assert (1, 12, 12, 16) in shapes["h100"] and shapes["a100"] == [(1, 16, 12, 12)]


def convolution(
    shape: tuple[int, ...], n_filters: int, *, last: bool = False, places: int = 3
) -> Any:
    """One convolution, its image and output with the channels last if asked for."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((n_filters, shape[1], places, places)).astype(np.float16)
    image = rng.standard_normal(shape).astype(np.float16)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[places // 2] * 4)]
    if last:
        image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        nodes[0].input[0], nodes[0].output[0] = "first", "second"
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["second"], ["y"], perm=[0, 2, 3, 1]))
    return graph_model(
        nodes,
        {"x": image},
        ["y"],
        constants={"w": weight},
        output_types={"y": TensorProto.FLOAT16},
    )


def test_a_network_with_channels_last_is_left_without_transposes() -> None:
    assert calls(on_hopper(convolution((2, 16, 12, 12), 24, last=True))) == ["fused_conv2d_cast"]


def test_a_convolution_alone_is_transposed_on_both_sides() -> None:
    names = calls(on_hopper(convolution((2, 16, 12, 12), 24)))
    assert names == ["transpose", "fused_conv2d_cast", "transpose1"]


def test_a_product_alone_stays_as_it_is() -> None:
    names = calls(on_hopper(convolution((2, 16, 12, 12), 24, places=1)))
    assert names == ["fused_conv2d_cast"]


def test_a_product_of_images_whose_channels_are_last_needs_no_transposes() -> None:
    model = convolution((2, 16, 12, 12), 24, places=1, last=True)
    program = on_hopper(model)
    assert calls(program) == ["fused_conv2d_cast"]
    (found,) = extract(program, H100).tasks
    assert [one.shape for one in found.task.workload.inputs] == [(2, 12, 12, 16), (24, 1, 1, 16)]
    assert {"conv", "matmul"} <= set(spaces_for(found.task))
    x = np.random.default_rng(1).standard_normal((2, 12, 12, 16)).astype(np.float16)
    weight = numpy_helper.to_array(model.graph.initializer[0])[:, :, 0, 0]
    (y,) = run_lowered(program, [x])
    close(y.astype(np.float32), x.astype(np.float32) @ weight.T.astype(np.float32))


class Pieces(nn.Module):
    """What networks of images do beside convolving: nothing of it may change its meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.down = nn.Conv2d(24, 16, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.up = nn.Conv2d(40, 16, 3, padding=1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.scale = nn.Parameter(torch.rand(16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.pointwise(nn.functional.silu(self.depthwise(self.first(x))))
        y = nn.functional.gelu(self.norm(self.down(skip)))
        y = nn.functional.interpolate(y, scale_factor=2, mode="nearest")
        y = self.up(torch.cat([y, skip], dim=1)) * self.scale
        y = y * torch.sigmoid(self.gate(nn.functional.adaptive_avg_pool2d(y, 1)))
        left, right = y.chunk(2, dim=1)
        y = nn.functional.pad(left - right.clamp(-1, 1), (1, 2, 0, 1))
        return nn.functional.avg_pool2d(y, 3, stride=2).softmax(dim=1).flatten(2).transpose(1, 2)


def test_other_operators_follow_or_are_transposed() -> None:
    torch.manual_seed(0)
    _, found, wanted = from_torch(Pieces(), torch.randn(1, 3, 12, 16))
    close(found, wanted)


class Patches(nn.Module):
    """The first layer of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 16, stride=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x).flatten(2).transpose(1, 2)


def test_patches_are_windows_without_any_padding() -> None:
    torch.manual_seed(0)
    program, found, wanted = from_torch(Patches(), torch.randn(2, 3, 48, 32))
    close(found, wanted)
    (conv,) = [
        one.task for one in extract(program, H100).tasks if "conv2d" in one.task.workload.name
    ]
    assert conv.workload.inputs[0].shape == (2, 48, 32, 3) and spaces_for(conv)[0] == "conv"


def test_a_layout_that_cannot_be_followed_leaves_channels_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tvm.relax import transform

    def fails(*_: Any) -> Any:
        import tvm

        def run(module: Any, _context: Any) -> Any:
            raise tvm.error.InternalError("no layout of strange_op is known")

        return tvm.transform.module_pass(run, opt_level=0, name="Fails")

    monkeypatch.setattr(transform, "ConvertLayout", fails)
    names = calls(on_hopper(convolution((2, 16, 12, 12), 24)))
    assert names == ["fused_conv2d_cast"]
    assert "strange_op" in caplog.text
