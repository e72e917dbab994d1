"""What `bench tuner` says before it runs anything."""

from pathlib import Path

import pytest

from effcompile.bench import tuner_speed
from effcompile.errors import UsageError
from schedules.target import Target


def bench(work: Path, name: str) -> None:
    tuner_speed.bench_tuner_speed(
        [name],
        n_trials=1,
        target=Target(kind="llvm", arch="native", name="CPU", n_cores=1),
        work=work,
        stock=True,
        watch=lambda row: None,
    )


def test_unknown_workload_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown workload matmul-7: expected softmax-256x256"):
        bench(tmp_path, "matmul-7")


def test_stock_without_cloudpickle_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner_speed, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs cloudpickle.*--no-stock"):
        bench(tmp_path, "softmax-256x256-float32")
