"""Devices and meters that are not there: one message, no run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcompile.errors import DeviceUnavailable
from effcompile.measure import cuda_facts, environment
from schedules.target import known_target
from tests.effcompile.cli.commands import refusal, write_perceptron

Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize("target", ["cuda", "h200"])
def test_cuda_without_gpu_says_what_to_do(here: Path, capsys: Shown, target: str) -> None:
    write_perceptron(here / "m.onnx")
    message = refusal(capsys, "tune", "m.onnx", "--out", "run", "--target", target, status=1)
    assert "--target cpu" in message
    assert not (here / "run").exists()


def test_a_gpu_of_another_kind_is_not_tuned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = dict.fromkeys(cuda_facts._ATTRIBUTES, 8) | {"capability_minor": 0}
    here = cuda_facts.GpuFacts(name="A100", uuid="GPU-1", driver_version="13.0", attributes=numbers)
    monkeypatch.setattr(environment, "gpu_facts", lambda: here)
    environment.require_device(known_target("a100"))
    with pytest.raises(DeviceUnavailable, match=r"sm_90\): the GPU here is A100 \(sm_80\)"):
        environment.require_device(known_target("h200"))


def test_meter_that_does_not_fit_is_refused_before_anything_is_written(
    here: Path, capsys: Shown
) -> None:
    write_perceptron(here / "m.onnx")
    options = ["--target", "cpu", "--meter", "nvml"]
    message = refusal(capsys, "tune", "m.onnx", "--out", "run", *options, status=1)
    assert "cannot measure energy with meter nvml" in message
    assert "--meter auto" in message
    assert not (here / "run").exists()
