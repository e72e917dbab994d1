"""The softmax family, tuned on this GPU, against torch.softmax and Inductor on the same tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effcompile.bench.harness import Contender, GpuHarness, Row
from effcompile.bench.single_ops import softmax_model
from effcompile.building import build_artifact
from effcompile.config import MeasureConfig, TuneConfig
from effcompile.errors import DeviceUnavailable
from effcompile.tuning import tune_models
from effcompile.verify import compare_outputs

SHAPES = (
    (4096, 4096, "float32"),
    (8192, 4096, "float32"),
    (98304, 4096, "bfloat16"),
    (32768, 1024, "float16"),
    (128, 131072, "float32"),
)
"""Rows, columns, dtype."""

_CACHE_BYTES = 60 * 1024 * 1024


def bench_softmax(
    shapes: Sequence[tuple[int, int, str]],
    *,
    config: TuneConfig,
    measure: MeasureConfig,
    work: Path,
    n_rounds: int,
) -> list[Row]:
    """Tune each shape, then measure ours and the peers in turn.

    Args:
        shapes: Rows, columns, dtype.
        config: Settings of the tuning.
        measure: Settings of the comparison.
        work: Folder for run folders and artifacts.
        n_rounds: Interleaved repetitions.

    Raises:
        DeviceUnavailable: There is no CUDA GPU, or torch cannot use it.
    """
    import torch

    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            "this benchmark compares with torch on a CUDA GPU and torch sees none. "
            "Run it on a machine with a GPU and a CUDA build of torch."
        )
    artifacts = [_tuned(shape, config, work) for shape in shapes]
    harness = GpuHarness(measure)
    rows = []
    for (n_rows, n_columns, dtype), artifact in zip(shapes, artifacts, strict=True):
        contenders = _contenders(n_rows, n_columns, dtype, artifact, measure)
        n_bytes = 2 * n_rows * n_columns * getattr(torch, dtype).itemsize
        name = f"softmax {n_rows}x{n_columns} {dtype}"
        rows += harness.compare(name, contenders, n_bytes=n_bytes, n_rounds=n_rounds)
    return rows


def _tuned(shape: tuple[int, int, str], config: TuneConfig, work: Path) -> Path:
    folder = work / "softmax-{}x{}-{}".format(*shape)
    tune_models({"main": softmax_model(*shape)}, folder, target="cuda", config=config)
    artifact = folder / "softmax.effc"
    build_artifact([folder], artifact, measure=False)
    return artifact


def _contenders(
    n_rows: int, n_columns: int, dtype: str, artifact: Path, config: MeasureConfig
) -> list[Contender]:
    import torch

    from effcompile.runtime import load

    torch.manual_seed(0)
    n_sets = _n_sets(2 * n_rows * n_columns * getattr(torch, dtype).itemsize, config)
    inputs = [
        torch.randn(n_rows, n_columns, device="cuda", dtype=getattr(torch, dtype))
        for _ in range(n_sets)
    ]
    module = load(artifact)
    compiled = torch.compile(lambda x: torch.softmax(x, -1), mode="max-autotune-no-cudagraphs")
    functions = {
        "effcompile": module,
        "torch.softmax": lambda x: torch.softmax(x, -1),
        "inductor max-autotune": compiled,
        "copy (ceiling)": torch.clone,
    }
    reference = torch.softmax(_some_rows(inputs[0]).double(), -1)
    contenders = []
    for name, function in functions.items():
        error = "" if name.startswith("copy") else _error_of(function, inputs[0], reference)
        launches = _launches(name, function, inputs)
        contenders.append(Contender(name=name, launches=() if error else launches, error=error))
    return contenders


def _n_sets(footprint_bytes: int, config: MeasureConfig) -> int:
    return 1 if config.cache == "hot" else max(1, -(-2 * _CACHE_BYTES // footprint_bytes))


def _error_of(function: Any, x: Any, reference: Any) -> str:
    try:
        found = _some_rows(function(x)).float().cpu().numpy()
    except Exception as error:  # a peer that does not run here is reported as such
        return f"{type(error).__name__}: {str(error)[:200]}"
    comparison = compare_outputs(["y"], [found], [reference.cpu().numpy()])[0]
    tolerance = 1e-3 if x.dtype.itemsize == 4 else 3e-2
    relative = comparison.relative_error
    if relative is None or relative > tolerance:
        return f"wrong result: {comparison.reason or relative}"
    return ""


def _some_rows(x: Any) -> Any:
    """First and last rows: enough to see a wrong kernel, small enough to compare."""
    import torch

    return torch.cat([x[:1024], x[-1024:]])


def _launches(name: str, function: Any, inputs: Sequence[Any]) -> list[Any]:
    if name == "effcompile":
        return [function.device_call("main", [x]) for x in inputs]

    def launch_of(x: Any) -> Any:
        return lambda: function(x)

    return [launch_of(x) for x in inputs]
