"""Loading and calling artifacts in this process."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from effcompile.artifact import write_artifact
from effcompile.errors import BadArtifact, BadInput, DeviceUnavailable, UsageError
from effcompile.runtime import Module, load
from schedules.target import known_target
from tests.effcompile.tiny_artifact import (
    CPU,
    TOLERANCE,
    library_bytes,
    manifest,
    relu_matmul,
    weight,
    write_tiny,
)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "tiny.effc"
    write_tiny(path)
    return path


@pytest.fixture(scope="module")
def module(path: Path) -> Module:
    return load(path)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 64), dtype=np.float32)


def test_numpy_in_numpy_out(module: Module, x: np.ndarray) -> None:
    y, half = module(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, relu_matmul(x), atol=TOLERANCE)
    assert half.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(half, y.astype(ml_dtypes.bfloat16))


def test_torch_in_torch_out(module: Module, x: np.ndarray) -> None:
    y, half = module(x=torch.from_numpy(x).requires_grad_())
    assert isinstance(y, torch.Tensor) and half.dtype == torch.bfloat16
    np.testing.assert_allclose(y.numpy(), relu_matmul(x), atol=TOLERANCE)


def test_entry_points_by_name(module: Module, x: np.ndarray) -> None:
    for rows in (1, 3):
        y = module.rows(x[:rows])
        np.testing.assert_allclose(y, relu_matmul(x[:rows]), atol=TOLERANCE)
    assert list(module.function("main").named(x)) == ["y", "y_half"]
    assert [entry.name for entry in module.signature] == ["main", "rows", "join", "same", "half"]


def test_bool_and_several_inputs(module: Module, x: np.ndarray) -> None:
    keep = x > 0
    np.testing.assert_array_equal(module.join(x, -x, keep), np.abs(x))
    joined = module.join(keep=torch.from_numpy(keep), a=torch.from_numpy(x), b=torch.zeros(4, 64))
    np.testing.assert_array_equal(joined.numpy(), np.maximum(x, 0))


def test_bfloat16_passes_both_ways(module: Module) -> None:
    x = np.arange(8).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(module.half(x), x + x)
    assert torch.equal(module.half(torch.arange(8).bfloat16()), 2 * torch.arange(8).bfloat16())


@pytest.mark.parametrize("layout", ["misaligned", "strided", "transposed", "swapped", "read_only"])
def test_awkward_memory_gives_the_same_result(module: Module, x: np.ndarray, layout: str) -> None:
    awkward = awkward_copy(x, layout)
    np.testing.assert_array_equal(awkward, x)
    np.testing.assert_array_equal(module(awkward)[0], module(x)[0])


def awkward_copy(x: np.ndarray, layout: str) -> np.ndarray:
    if layout == "misaligned":
        raw = np.empty(x.nbytes + 4, dtype=np.uint8)[4:]
        odd = raw.view(np.float32).reshape(x.shape)
        odd[...] = x
        return odd
    if layout == "strided":
        wide = np.zeros((4, 128), dtype=np.float32)
        wide[:, ::2] = x
        return wide[:, ::2]
    if layout == "transposed":
        return np.asfortranarray(x)
    if layout == "swapped":
        return x.astype(">f4")
    frozen = x.copy()
    frozen.flags.writeable = False
    return frozen


def test_torch_views_at_odd_offsets_are_copied(module: Module, x: np.ndarray) -> None:
    base = torch.zeros(4 * 64 + 1)
    view = base[1:].view(4, 64)
    view.copy_(torch.from_numpy(x))
    np.testing.assert_array_equal(module(view)[0].numpy(), module(x)[0])


def test_returned_arguments_are_copies(module: Module, x: np.ndarray) -> None:
    aligned = torch.from_numpy(x).clone()
    again, w = module.same(aligned)
    w.zero_()
    again.zero_()
    assert torch.equal(aligned, torch.from_numpy(x))
    np.testing.assert_allclose(module(x)[0], relu_matmul(x), atol=TOLERANCE)


def test_outputs_outlive_the_module(path: Path, x: np.ndarray) -> None:
    y = load(path)(x)[0]
    load(path)(np.zeros_like(x))
    np.testing.assert_allclose(y, relu_matmul(x), atol=TOLERANCE)


def test_a_later_call_does_not_change_earlier_outputs(module: Module, x: np.ndarray) -> None:
    first = module(x)[0]
    kept = first.copy()
    for _ in range(5):
        module(np.zeros_like(x))
    np.testing.assert_array_equal(first, kept)


def test_threads_get_their_own_results(module: Module) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((4, 64), dtype=np.float32)
        for _ in range(20):
            if not np.allclose(module(x)[0], relu_matmul(x), atol=TOLERANCE):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_device_call_launches_and_checks(module: Module, x: np.ndarray) -> None:
    launch = module.device_call("main", [x])
    launch()
    module.synchronise()
    with pytest.raises(BadInput, match="expected x: float32"):
        module.device_call("main", [x[:2]])


@pytest.mark.parametrize(
    ("entry", "args", "kwargs", "message"),
    [
        ("main", [], {}, r"missing x. Expected main\(x: float32\[4, 64\]\)"),
        ("main", [], {"z": np.zeros(1)}, "unknown z; missing x"),
        ("main", [np.zeros(1)], {"x": np.zeros(1)}, "given twice x"),
        ("main", [np.zeros(1)] * 2, {}, "got 2 positional inputs, expected at most 1"),
        ("main", [np.zeros((4, 63), np.float32)], {}, r"shape \[4, 63\], expected x: float32"),
        ("main", [np.zeros(256, np.float32)], {}, r"shape \[256\]"),
        ("main", [np.zeros((4, 64))], {}, r"is float64, expected float32.*x\.astype\('float32'\)"),
        ("main", [torch.zeros(4, 64).half()], {}, r"is float16, .*x\.to\(torch\.float32\)"),
        ("main", [[[1.0] * 64] * 4], {}, "cannot be used: builtins.list; expected numbers"),
        ("main", [np.array(["a"])], {}, "unknown dtype 'str32'; expected numbers"),
        ("rows", [np.zeros((0, 64), np.float32)], {}, "has 0 elements along n"),
    ],
)
def test_bad_inputs_say_what_is_expected(
    module: Module, entry: str, args: list[object], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        module.function(entry)(*args, **kwargs)


def test_open_dimensions_must_agree(module: Module) -> None:
    a, b = np.zeros((2, 64), np.float32), np.zeros((3, 64), np.float32)
    with pytest.raises(BadInput, match=r"input b has n = 3 \(axis 0\), but a has n = 2"):
        module.join(a, b, a > 0)


def test_unknown_entry_points(module: Module) -> None:
    with pytest.raises(BadInput, match="no entry point 'decode', expected one of: main, rows"):
        module.function("decode")
    with pytest.raises(AttributeError):
        _ = module.decode


def test_several_entries_without_main_ask_for_a_name(tmp_path: Path, x: np.ndarray) -> None:
    made = manifest()
    path = tmp_path / "two.effc"
    two = replace(made, entries=made.entries[1:3])
    write_artifact(path, two, library_bytes(), {"w": weight()})
    with pytest.raises(BadInput, match="several entry points: rows, join"):
        load(path)(x)


def test_cuda_artifact_without_a_gpu_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpu.effc"
    write_tiny(path, known_target("h200"), library=b"never loaded")
    with pytest.raises(DeviceUnavailable, match="compiled for NVIDIA H200"):
        load(path, device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable, match="effcompile doctor"):
            load(path)


def test_device_names_are_checked(path: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        load(path, device="gpu")
    with pytest.raises(DeviceUnavailable, match="Build it again with --target cuda"):
        load(path, device="cuda:1")


def test_library_for_another_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.effc"
    library = bytearray(library_bytes())
    library[18:20] = b"\xb7\x00"  # ELF machine: AArch64
    write_artifact(path, manifest(CPU), bytes(library), {"w": weight()})
    with pytest.raises(BadArtifact, match="its library does not load on this machine"):
        load(path)


def test_damaged_parameter_is_refused_on_loading(path: Path, tmp_path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(weight().tobytes()) + 100] ^= 4
    copy = tmp_path / "damaged.effc"
    copy.write_bytes(damaged)
    with pytest.raises(BadArtifact, match=r"params/w\.bin is damaged"):
        load(copy)
