"""Artifacts on a real GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from effcompile.artifact import write_artifact
from effcompile.errors import BadArtifact, BadInput, DeviceUnavailable
from effcompile.runtime import Module, load
from schedules.target import Target, known_target
from tests.effcompile.tiny_artifact import (
    TOLERANCE,
    library_bytes,
    manifest,
    relu_matmul,
    weight,
    write_tiny,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def target() -> Target:
    major, minor = torch.cuda.get_device_capability(0)
    return replace(known_target("h200"), arch=f"sm_{major}{minor}")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "tiny.effc"
    write_tiny(path, target)
    return path


@pytest.fixture(scope="module")
def module(path: Path) -> Module:
    return load(path)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 64), dtype=np.float32)


def test_numpy_is_copied_there_and_back(module: Module, x: np.ndarray) -> None:
    assert module.device == "cuda:0"
    y, half = module(x)
    np.testing.assert_allclose(y, relu_matmul(x), atol=TOLERANCE)
    assert half.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(module.join(x, -x, x > 0), np.abs(x))


def test_torch_on_the_device_stays_there(module: Module, x: np.ndarray) -> None:
    y, half = module(torch.from_numpy(x).cuda())
    assert y.is_cuda and half.dtype == torch.bfloat16
    np.testing.assert_allclose(y.cpu().numpy(), relu_matmul(x), atol=TOLERANCE)


def test_torch_on_the_host_comes_back_to_the_host(module: Module, x: np.ndarray) -> None:
    y, _ = module(torch.from_numpy(x))
    assert not y.is_cuda
    np.testing.assert_allclose(y.numpy(), relu_matmul(x), atol=TOLERANCE)


def test_calls_follow_the_current_stream(module: Module, x: np.ndarray) -> None:
    stream = torch.cuda.Stream()
    source = torch.from_numpy(x).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for step in range(20):
            # The input is produced late on this stream; another stream would read it early.
            late = torch.zeros_like(source)
            torch.cuda._sleep(2_000_000)
            late += source * (step + 1)
            y = module.rows(late)
            doubled = y * 2
        stream.synchronize()
    np.testing.assert_allclose(
        doubled.cpu().numpy(), 2 * relu_matmul(x * 20), rtol=1e-4, atol=20 * TOLERANCE
    )


def test_open_dimensions_and_odd_offsets(module: Module, x: np.ndarray) -> None:
    base = torch.zeros(1 + 3 * 64, device="cuda")
    view = base[1:].view(3, 64)
    view.copy_(torch.from_numpy(x[:3]))
    y = module.rows(view)
    np.testing.assert_allclose(y.cpu().numpy(), relu_matmul(x[:3]), atol=TOLERANCE)


def test_returned_arguments_are_copies(module: Module, x: np.ndarray) -> None:
    source = torch.from_numpy(x).cuda()
    again, w = module.same(source)
    again.zero_()
    w.zero_()
    np.testing.assert_array_equal(source.cpu().numpy(), x)
    np.testing.assert_allclose(module(x)[0], relu_matmul(x), atol=TOLERANCE)


def test_device_call_launches_without_waiting(module: Module, x: np.ndarray) -> None:
    launch = module.device_call("main", [x])
    for _ in range(100):
        launch()
    module.synchronise()


def test_tensors_of_the_device_do_not_pass_to_a_cpu_module(tmp_path: Path, x: np.ndarray) -> None:
    path = tmp_path / "cpu.effc"
    write_tiny(path)
    with pytest.raises(BadInput, match="input x is on cuda:0, the module on cpu"):
        load(path)(torch.from_numpy(x).cuda())


def test_devices_that_are_not_there_are_refused(path: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="no CUDA device 77"):
        load(path, device="cuda:77")


def test_code_of_another_generation_is_refused(tmp_path: Path, target: Target) -> None:
    path = tmp_path / "old.effc"
    old = replace(target, arch="sm_52")
    write_artifact(path, manifest(old), library_bytes(target), {"w": weight()})
    with pytest.raises(BadArtifact, match="compiled for sm_52"):
        load(path)
