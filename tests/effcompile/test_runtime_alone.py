"""Artifacts run in a fresh process that has neither TVM's compiler nor torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.effcompile.tiny_artifact import TOLERANCE, relu_matmul, write_tiny

ROOT = Path(__file__).parents[2]

_ALONE = """
import json, os, sys, tempfile
import numpy as np
import effcompile.runtime
module = effcompile.runtime.load(sys.argv[1])
y, _ = module(np.load(sys.argv[2]))
np.save(sys.argv[3], y)
maps = open("/proc/self/maps").read()
print(json.dumps({
    "compiler": "libtvm_compiler" in maps or "tvm" in sys.modules,
    "torch": "libtorch" in maps or "torch" in sys.modules,
    "left": os.listdir(tempfile.gettempdir()),
}))
"""

_TORCH_LATER = """
import sys
import numpy as np
import effcompile.runtime
module = effcompile.runtime.load(sys.argv[1])
module(np.zeros((4, 64), np.float32))
assert "torch" not in sys.modules
import torch
y, half = module(torch.ones(4, 64))
assert isinstance(y, torch.Tensor) and half.dtype == torch.bfloat16
"""

_TVM_TOO = """
import sys
import numpy as np
if sys.argv[2] == "before":
    from schedules import _tvm
    tvm = _tvm.load()
    assert "torch" not in sys.modules, "200 MB that tuning never uses"
import effcompile.runtime
module = effcompile.runtime.load(sys.argv[1])
module(np.zeros((4, 64), np.float32))
if sys.argv[2] == "after":
    import tvm
if sys.argv[2] == "compiler after":
    from schedules import _tvm
    tvm = _tvm.load()
    assert "torch" not in sys.modules, "verifying against an ONNX file never uses it"
assert tvm.runtime.empty((2,)).shape == (2,)
y, _ = module(np.ones((4, 64), np.float32))
assert y.shape == (4, 32)
assert tvm.ir.save_json(tvm.tirx.IntImm("int32", 3))
if sys.argv[2] == "before":
    import torch
    y, _ = module(torch.ones(4, 64))
    assert isinstance(y, torch.Tensor)
    assert tvm.runtime.from_dlpack(torch.ones(3)).numpy().tolist() == [1, 1, 1]
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "tiny.effc"
    write_tiny(path)
    return path


def run(script: str, *args: object, **environment: str) -> str:
    command = [sys.executable, "-c", script, *map(str, args)]
    environment = {**os.environ, **environment}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runs_without_compiler_and_torch(path: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((4, 64), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    files = (tmp_path / "x.npy", tmp_path / "y.npy")
    told = json.loads(run(_ALONE, path, *files, TMPDIR=str(scratch)))
    assert told == {"compiler": False, "torch": False, "left": []}
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), relu_matmul(x), atol=TOLERANCE)


def test_torch_imported_later_still_passes(path: Path) -> None:
    run(_TORCH_LATER, path)


@pytest.mark.parametrize("order", ["before", "after", "compiler after"])
def test_lives_beside_the_whole_of_tvm(path: Path, order: str) -> None:
    run(_TVM_TOO, path, order)
