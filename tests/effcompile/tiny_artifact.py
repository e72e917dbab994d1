"""A real compiled module, small enough for every test: built once, by a process of its own.

Entry points, all in one library and sharing the parameter ``w``:

- ``main(x[4, 64]) -> relu(x @ w), bfloat16(relu(x @ w))``
- ``rows(x[n, 64]) -> relu(x @ w)`` with ``n`` open
- ``join(a[n, 64], b[n, 64], keep[n, 64] bool) -> where(keep, a, b)``
- ``same(x[4, 64]) -> x, w``, which hands out its own arguments
- ``half(x[8] bfloat16) -> x + x``
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from effcompile.artifact import write_artifact
from effcompile.manifest import Manifest, TunedWorkload
from effcompile.signature import ArgumentSpec, EntryPoint
from schedules.target import Target

CPU = Target(kind="llvm", arch="x86-64-v2", name="test CPU", n_cores=2)
TOLERANCE = 5e-5
"""Of 64 products of magnitude one in float32: 64 * 2**-24 * a few."""

_COMPILE = """
import json, sys
sys.modules["torch"] = None
import tvm
from tvm import relax

builder = relax.BlockBuilder()
n = tvm.tirx.Var("n", "int64")

def tensor(name, shape, dtype="float32"):
    return relax.Var(name, relax.TensorType(shape, dtype))

def function(name, inputs, body):
    with builder.function(name, inputs):
        with builder.dataflow():
            out = builder.emit_output(body(*inputs))
        builder.emit_func_output(out)

def emit(value):
    return builder.emit(value)

def both(x, w):
    y = emit(relax.op.nn.relu(emit(relax.op.matmul(x, w))))
    return relax.Tuple([y, emit(relax.op.astype(y, "bfloat16"))])

function("main", [tensor("x", (4, 64)), tensor("w", (64, 32))], both)
function("rows", [tensor("x", (n, 64)), tensor("w", (64, 32))],
         lambda x, w: relax.op.nn.relu(emit(relax.op.matmul(x, w))))
function("join", [tensor("a", (n, 64)), tensor("b", (n, 64)), tensor("keep", (n, 64), "bool")],
         lambda a, b, keep: relax.op.where(keep, a, b))
function("same", [tensor("x", (4, 64)), tensor("w", (64, 32))], lambda x, w: relax.Tuple([x, w]))
function("half", [tensor("x", (8,), "bfloat16")], lambda x: relax.op.add(x, x))

target = tvm.target.Target(json.loads(sys.argv[2]))
with target:
    module = relax.get_pipeline("zero")(builder.get())
    if target.kind.name == "cuda":
        import tvm.s_tir.dlight as dl
        module = dl.ApplyDefaultSchedule(dl.gpu.Matmul(), dl.gpu.Fallback())(module)
    tvm.compile(module, target).export_library(sys.argv[1])
"""


@functools.cache
def library_bytes(target: Target = CPU) -> bytes:
    """The compiled library."""
    attributes: dict[str, object] = {"kind": "llvm", "mcpu": target.arch, "num-cores": 2}
    if target.kind == "cuda":
        attributes = {
            "kind": "cuda",
            "arch": target.arch,
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "registers_per_block": 65536,
            "l2_cache_size_bytes": 1 << 25,
            "host": {"kind": "llvm"},
        }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.so"
        command = [sys.executable, "-c", _COMPILE, str(path), json.dumps(attributes)]
        subprocess.run(command, check=True)
        return path.read_bytes()


def weight() -> np.ndarray:
    """The parameter."""
    return np.random.default_rng(7).standard_normal((64, 32), dtype=np.float32)


def relu_matmul(x: np.ndarray) -> np.ndarray:
    """The first result of ``main``, in float64."""
    return np.maximum(x.astype(np.float64) @ weight().astype(np.float64), 0)


def spec(name: str, shape: tuple[int | str, ...], dtype: str = "float32") -> ArgumentSpec:
    """Shorthand."""
    return ArgumentSpec(name=name, shape=shape, dtype=dtype)


def manifest(target: Target = CPU) -> Manifest:
    """The manifest, before it is stored."""
    x, y = spec("x", (4, 64)), spec("y", (4, 32))
    return Manifest(
        target=target,
        entries=(
            EntryPoint(
                name="main",
                inputs=(x,),
                outputs=(y, spec("y_half", (4, 32), "bfloat16")),
                parameters=("w",),
            ),
            EntryPoint(
                name="rows",
                inputs=(spec("x", ("n", 64)),),
                outputs=(spec("y", ("n", 32)),),
                parameters=("w",),
            ),
            EntryPoint(
                name="join",
                inputs=(
                    spec("a", ("n", 64)),
                    spec("b", ("n", 64)),
                    spec("keep", ("n", 64), "bool"),
                ),
                outputs=(spec("joined", ("n", 64)),),
            ),
            EntryPoint(
                name="same",
                inputs=(x,),
                outputs=(spec("x_again", (4, 64)), spec("w_again", (64, 32))),
                parameters=("w",),
            ),
            EntryPoint(
                name="half",
                inputs=(spec("x", (8,), "bfloat16"),),
                outputs=(spec("y", (8,), "bfloat16"),),
            ),
        ),
        workloads=(
            TunedWorkload(
                task_id="00ff",
                name="fused_matmul_relu",
                op="generic",
                n_calls=2,
                space="default",
                decisions="{}",
            ),
        ),
        effcompile_version="0.1.0",
        seed=3,
    )


def write_tiny(path: Path, target: Target = CPU, *, library: bytes | None = None) -> Manifest:
    """Write the artifact; with ``library`` nothing is compiled."""
    payload = library_bytes(target) if library is None else library
    return write_artifact(path, manifest(target), payload, {"w": weight()})
