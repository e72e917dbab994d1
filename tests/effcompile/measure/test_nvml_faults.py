"""A driver that refuses: a stand-in for its two libraries, compiled here, answers with errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, save_model

from tests.effcompile.lowered_models import graph_model

STUB = Path(__file__).parent / "gpu_stub.c"
FAULTS = [
    *("none", "init=4", "init=9", "init=999", "count=4", "uuid=4", "name=4"),
    *("energy=3", "energy=4", "energy=999", "stuck=1", "processes=4"),
]
ASK = """
import json, os, sys
import msgspec
from effcompile.doctor import cuda
from effcompile.measure.meters import NoMeter, open_meter
answers = {}
for faults in sys.argv[1:]:
    os.environ["NVML_FAULTS"] = faults
    meter = open_meter("auto", kind="cuda", gpu_uuid="GPU-0")
    checks = [check() for check in (cuda.gpu, cuda.gpu_energy, cuda.other_processes)]
    answers[faults] = {
        "reason": meter.reason if isinstance(meter, NoMeter) else "",
        "denied": isinstance(meter, NoMeter) and meter.denied,
        "checks": {check.name: msgspec.to_builtins(check) for check in checks},
    }
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which the driver's libraries are the stub."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("stub")
    nvml = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", str(STUB), "-o", str(nvml)], check=True)
    shutil.copy(nvml, folder / "libcuda.so.1")
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


@pytest.fixture(scope="module")
def answers(libraries: dict[str, str]) -> dict[str, Any]:
    """What meter and doctor say under every fault."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *FAULTS],
        env=libraries,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("faults", "told", "denied"),
    [
        ("none", "", False),
        ("init=4", "may not be used", True),
        ("init=9", "Driver Not Loaded", False),
        ("uuid=4", "may not be used", True),
        ("energy=3", "no energy counter: Not Supported", False),
        ("energy=4", "may not be read: Insufficient Permissions", True),
        ("energy=999", "cannot be read: Unknown Error", False),
    ],
)
def test_meter_says_what_the_driver_refused(
    answers: dict[str, Any], faults: str, told: str, denied: bool
) -> None:
    answer = answers[faults]
    assert told in answer["reason"] and answer["denied"] is denied
    assert bool(answer["reason"]) == bool(told)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("faults", "check", "status", "found"),
    [
        ("none", "GPU", "ok", "Stub; driver 580"),
        ("none", "GPU energy", "ok", "counter steps every"),
        ("none", "other GPU work", "ok", "none"),
        ("init=9", "GPU", "warn", "Stub, of which the management library tells nothing"),
        ("init=9", "GPU energy", "warn", "Driver Not Loaded"),
        ("init=999", "GPU", "warn", "Unknown Error"),
        ("count=4", "GPU energy", "warn", "Insufficient Permissions"),
        ("name=4", "GPU", "ok", "unknown (Insufficient Permissions)"),
        ("energy=4", "GPU energy", "warn", "may not be read"),
        ("stuck=1", "GPU energy", "warn", "stood still"),
        ("processes=4", "other GPU work", "warn", "not told: Insufficient Permissions"),
    ],
)
def test_doctor_names_what_the_driver_refused(
    answers: dict[str, Any], faults: str, check: str, status: str, found: str
) -> None:
    told = answers[faults]["checks"][check]
    assert told["status"] == status and found in told["found"]
    assert status == "ok" or "nvidia-smi" in told["advice"]


@pytest.mark.timeout(120)
def test_tuning_with_a_meter_that_is_refused_ends_with_one_message(
    libraries: dict[str, str], tmp_path: Path
) -> None:
    x = np.zeros((4, 8), np.float32)
    model = graph_model([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, ["y"])
    save_model(model, tmp_path / "relu.onnx")
    command = ["tune", "relu.onnx", "--target", "cuda", "--meter", "nvml", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "effcompile", *command],
        env={**libraries, "NVML_FAULTS": "energy=4"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: cannot measure energy with meter nvml: ")
    assert "may not be read" in done.stderr and "--meter auto" in done.stderr
    assert not (tmp_path / "run").exists()
