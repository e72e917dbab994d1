"""A run folder with a simulated device for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from schedules.task import Task
from search.config import SearchConfig
from search.database import Database
from search.events import (
    Event,
    ignore,
)
from search.stopping import StopRequest
from search.trial import Trial
from search.tuner import tune
from tests.doubles import (
    SimulatedBuilder,
    SimulatedRunner,
    SimulatedSpace,
    make_task,
)

CONFIG = SearchConfig(n_trials=60, round_size=10, population=24, energy_top=3, energy_random=1)


@dataclass
class Bench:
    """One run folder with its simulated device; ``tune`` may be called again and again."""

    folder: Path
    tasks: list[Task] = field(
        default_factory=lambda: [make_task("matmul", weight=3), make_task("softmax")]
    )
    config: SearchConfig = CONFIG
    builder: SimulatedBuilder = field(default_factory=SimulatedBuilder)
    runner: SimulatedRunner = field(default_factory=SimulatedRunner)
    names: tuple[str, ...] = ("knobs", "slow")
    new_space: Callable[[str], SimulatedSpace] = SimulatedSpace
    seen: list[Event] = field(default_factory=list)
    stop: StopRequest = field(default_factory=StopRequest)
    watch: Callable[[Event], None] = ignore

    def tune(self) -> str:
        spaces: dict[tuple[str, str], SimulatedSpace] = {}
        with Database(self.folder) as database:
            return tune(
                self.tasks,
                spaces=lambda task, name: spaces.setdefault(
                    (task.task_id, name), self.new_space(name)
                ),
                space_names=lambda task: self.names,
                builder=self.builder,
                runner=self.runner,
                database=database,
                config=self.config,
                events=self._see,
                stop=self.stop,
            )

    def _see(self, event: Event) -> None:
        self.seen.append(event)
        self.watch(event)

    def trials(self) -> list[Trial]:
        with Database(self.folder, read_only=True) as database:
            return database.trials()

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.seen if isinstance(event, kind)]
