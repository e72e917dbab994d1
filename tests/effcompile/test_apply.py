"""Schedules go into the program, and the program into a library that runs by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from effcompile.apply import apply, compile_program
from effcompile.extract import extract_tasks
from effcompile.lower import LoweredProgram, lower
from schedules import _tvm
from schedules.spaces import open_space
from schedules.target import known_target
from tests.effcompile.light_models import light_model
from tests.effcompile.lowered_models import CPU, graph_model, lowered, normal


def small_program() -> LoweredProgram:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"], axis=-1),
    ]
    return lowered(
        graph_model(nodes, {"x": normal(8, 32)}, ["y"], constants={"w": normal(32, 64, seed=1)})
    )


def run_library(path: Path, program: LoweredProgram, inputs: list[np.ndarray]) -> Any:
    tvm = _tvm.load()
    from tvm import relax

    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    entry = program.entries[0]
    parameters = [program.parameters[identifier] for identifier in entry.parameters]
    return machine[entry.name](*map(tvm.runtime.tensor, [*inputs, *parameters])).numpy()


def expected_of_small(x: np.ndarray) -> np.ndarray:
    hidden = np.maximum(x.astype(np.float64) @ normal(32, 64, seed=1), 0)
    raised = np.exp(hidden - hidden.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def test_default_schedules_compute_the_same(tmp_path: Path) -> None:
    program = small_program()
    library = compile_program(apply(program, {}, CPU), CPU, tmp_path / "m.so")
    x = normal(8, 32, seed=2)
    np.testing.assert_allclose(
        run_library(library, program, [x]), expected_of_small(x), rtol=1e-4, atol=1e-6
    )
    assert [file.name for file in tmp_path.iterdir()] == ["m.so"]


def test_chosen_candidates_replace_their_functions(tmp_path: Path) -> None:
    program = small_program()
    choices, expected = {}, {}
    for extracted in extract_tasks(program, CPU):
        space = open_space(extracted.task, "tvm")
        candidate = space.sample(1, np.random.default_rng(0))[0]
        choices[extracted.task.task_id] = candidate
        expected[extracted.functions[0]] = space.realise(candidate)["main"]
    before = {v.name_hint: f for v, f in program.module.functions_items()}
    scheduled = apply(program, choices, CPU)
    import tvm_ffi

    assert expected.keys() == {"fused_matmul_relu", "softmax"}
    for symbol, body in expected.items():
        found = scheduled[symbol]
        assert str(found.attrs["global_symbol"]) == symbol
        assert tvm_ffi.structural_equal(found.body, body.body, map_free_vars=True) or (
            str(found.body) == str(body.body)
        )
        assert program.module[symbol].same_as(before[symbol])
    library = compile_program(scheduled, CPU, tmp_path / "m.so")
    x = normal(8, 32, seed=2)
    np.testing.assert_allclose(
        run_library(library, program, [x]), expected_of_small(x), rtol=1e-4, atol=1e-6
    )


ALONE = """
import ctypes, sys
from importlib.util import find_spec
from pathlib import Path
import numpy as np
sys.modules["torch"] = None
import tvm_ffi
folder = Path(find_spec("tvm").origin).parent / "lib"
ctypes.CDLL(str(folder / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
machine = tvm_ffi.load_module(sys.argv[1])["vm_load_executable"]()
machine["vm_initialization"](1, 0, 2)
arrays = np.load(sys.argv[2])
def aligned(array):  # machine code expects 64 bytes, which NumPy does not promise
    room = np.empty(array.nbytes + 64, dtype=np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy
arguments = [aligned(arrays[name]) for name in arrays.files]
result = machine["main"](*map(tvm_ffi.from_dlpack, arguments))
np.save(sys.argv[3], np.from_dlpack(result))
assert "tvm" not in sys.modules
"""


def test_library_runs_with_the_runtime_alone(tmp_path: Path) -> None:
    program = small_program()
    library = compile_program(apply(program, {}, CPU), CPU, tmp_path / "m.so")
    x = normal(8, 32, seed=2)
    weights = [program.parameters[name] for name in program.entries[0].parameters]
    np.savez(tmp_path / "in.npz", x, *weights)
    arguments = [str(library), str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", ALONE, *arguments], check=True, timeout=50)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), expected_of_small(x), rtol=1e-4, atol=1e-6
    )


CUDA_BUILD = """
import sys
from pathlib import Path
from effcompile.measure.driver_stub import prepare_driver
prepare_driver()
sys.path.insert(0, "")
from effcompile.apply import apply, compile_program
from schedules.target import known_target
from tests.effcompile.test_apply import small_program_for
target = known_target("h200")
program = small_program_for(target)
compile_program(apply(program, {}, target), target, Path(sys.argv[1]))
"""


def small_program_for(target: Any) -> LoweredProgram:
    from effcompile.frontend.checking import prepare_model

    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    return lower({"main": prepare_model(graph_model([node], {"x": normal(8, 64)}, ["y"]))}, target)


@pytest.mark.slow
def test_cuda_library_holds_machine_code(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings")
    assert known_target("h200").arch == "sm_90"
    path = tmp_path / "m.so"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", CUDA_BUILD, str(path)], check=True, timeout=55, cwd=root)
    content = path.read_bytes()
    # The ELF image of the device code (machine type 190) inside the library's own.
    images = [i for i in range(1, len(content)) if content.startswith(b"\x7fELF", i)]
    assert any(content[i + 18 : i + 20] == (190).to_bytes(2, "little") for i in images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "squeezenet"])
def test_light_models_agree_with_their_stored_output(name: str, tmp_path: Path) -> None:
    model, inputs, expected = light_model(name)
    program = lower({"main": model}, CPU)
    library = compile_program(apply(program, {}, CPU), CPU, tmp_path / "m.so")
    # The tolerance of the onnx package's own test of these models.
    np.testing.assert_allclose(
        run_library(library, program, inputs), expected, rtol=1e-3, atol=1e-7
    )
    if name == "resnet50":
        convolutions = [
            each for each in extract_tasks(program, CPU) if "conv2d" in each.functions[0]
        ]
        assert sum(each.n_calls for each in convolutions) == 53
        assert sum(each.n_calls for each in convolutions if "relu" in each.functions[0]) == 49
