"""Tunes on the simulated device until done; started, killed and restarted by the kill test."""

from __future__ import annotations

import sys
from pathlib import Path

from search.config import SearchConfig
from search.database import Database
from search.tuner import tune
from tests.doubles import (
    SimulatedBuilder,
    SimulatedRunner,
    SimulatedSpace,
    faults_by_hash,
    make_task,
)


def main(folder: Path, delay_s: float) -> None:
    spaces: dict[tuple[str, str], SimulatedSpace] = {}
    with Database(folder) as database:
        tune(
            [make_task("matmul", weight=3), make_task("softmax")],
            spaces=lambda task, name: spaces.setdefault((task.task_id, name), SimulatedSpace(name)),
            space_names=lambda task: ["knobs", "slow"],
            builder=SimulatedBuilder(fault=faults_by_hash),
            runner=SimulatedRunner(fault=faults_by_hash, delay_s=delay_s),
            database=database,
            config=SearchConfig(n_trials=100, round_size=12, population=32, energy_top=3),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
