"""What every step of a tuning session works with."""

from __future__ import annotations

from dataclasses import dataclass

from search.database import Database
from search.events import Events
from search.libraries import Libraries
from search.ports import Runner
from search.progress import Progress
from search.spending import Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The collaborators of one session.

    Attributes:
        runner: Checks and measures.
        database: Where everything is recorded.
        libraries: Builds, and the question whether to stop.
        progress: Where the run stands, for events.
        spending: Seconds and joules of this session.
        events: Told of every step.
    """

    runner: Runner
    database: Database
    libraries: Libraries
    progress: Progress
    spending: Spending
    events: Events
