"""One search on a recording, from start to end, and what it came to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from effcompile.config import TuneConfig
from effcompile.replaying import replay
from search.database import Database
from search.history import TaskHistory
from search.identity import Identity, search_settings
from search.memory import RunMemory
from search.recording import Recording
from search.stored import EnergyRecord
from search.trial import Trial
from search.winners import Winner, winners


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A finished search.

    Attributes:
        histories: One per task of the recording.
        winners: By task id.
        energies: Every energy measurement, those of finalists too.
        model_s: Seconds of training and asking models, of this computer.
    """

    histories: Sequence[TaskHistory]
    winners: dict[str, Winner]
    energies: Sequence[EnergyRecord]
    model_s: float

    @property
    def trials(self) -> list[Trial]:
        """Every finished trial."""
        return [trial for history in self.histories for trial in history.trials]


def replayed(
    recording: Recording,
    config: TuneConfig,
    *,
    search: Callable[[Recording, Database, TuneConfig], object] | None = None,
) -> Replayed:
    """Search a recording in a folder that is removed afterwards.

    Args:
        recording: What is searched.
        config: How.
        search: Does it; :func:`effcompile.replaying.replay` unless given.
    """
    identity = Identity(
        model_hash="bench",
        target=recording.tasks[0].task.target,
        settings=search_settings(config.search),
    )
    with (
        tempfile.TemporaryDirectory(prefix="effcompile-bench-") as folder,
        Database(Path(folder)) as database,
    ):
        database.claim(identity, config_json="{}")
        if search is None:
            replay(recording, database, config=config)
        else:
            search(recording, database, config)
        return Replayed(
            histories=RunMemory(database.tasks(), database).histories,
            winners=winners(database, config.search),
            energies=database.energies(),
            model_s=sum(one.model_s for one in database.sessions()),
        )


def latency_winner(history: TaskHistory) -> Trial:
    """What a tuner that knows only latency would ship: the fastest trial in short bursts."""
    return min(history.ok_trials(), key=lambda one: (history.point(one).latency_us, one.trial_id))
