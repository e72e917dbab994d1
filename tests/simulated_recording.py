"""A recording of the simulated device, made by the real loop and the real recorder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from schedules.candidate import Candidate
from schedules.task import Task
from search.config import SearchConfig
from search.database import Database
from search.identity import Identity
from search.recorder import record
from search.recording import Recording
from search.tuner import tune
from tests.doubles import (
    Fault,
    SimulatedBuilder,
    SimulatedRunner,
    SimulatedSpace,
    make_task,
    no_fault,
)


def features_of(task: Task, space_name: str, candidates: Sequence[Candidate]) -> np.ndarray:
    return SimulatedSpace(space_name).features(candidates)


def simulated_run(
    folder: Path, *, n_trials: int = 120, fault: Fault = no_fault, **settings: object
) -> Path:
    """Two tasks, random candidates, energy of every one."""
    tasks = [make_task("matmul", weight=3), make_task("softmax")]
    config = replace(
        SearchConfig(
            n_trials=n_trials,
            round_size=30,
            strategy="random",
            energy_policy="measure_all",
            energy_band=99.0,
        ),
        **settings,
    )
    folder.mkdir(parents=True, exist_ok=True)
    spaces = {name: SimulatedSpace(name) for name in ("knobs", "slow")}
    with Database(folder) as database:
        database.claim(
            Identity(model_hash="0", target=tasks[0].target, settings={"search.seed": 0}),
            config_json="{}",
        )
        tune(
            tasks,
            spaces=lambda task, name: spaces[name],
            space_names=lambda task: list(spaces),
            builder=SimulatedBuilder(fault=fault),
            runner=SimulatedRunner(fault=fault),
            database=database,
            config=config,
        )
    return folder


def simulated_recording(folder: Path, **settings: object) -> Recording:
    run = simulated_run(folder, **settings)
    with Database(run, read_only=True) as database:
        return record(database, features_of=features_of, command="simulated")
