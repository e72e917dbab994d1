"""Outcomes of searches over workloads and seeds: one row per way to search, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effcompile.bench.search_outcomes import SearchOutcome
from effcompile.bench.search_ways import REFERENCE, WAYS
from search.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean with half the width of its 95 % interval by Student, ``None`` for one value."""

    value: float
    ci95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One way to search, over all workloads and seeds; percentages.

    Attributes:
        way: Which way.
        about: What it is.
        n_outcomes: Workloads times seeds.
        saved: Energy saved against the fastest candidate of the same trials.
        best_saved: The largest saving of a workload, mean over its seeds.
        slowdown: Latency given up against it.
        excess: Energy over the least recorded within the latency limit.
        versus_reference: Energy over that of ``V2`` with the same seed.
        versus_all: Energy over that of measuring everything (``B4``).
        n_trials: Mean trials.
        n_energies: Mean energy windows while searching.
        energy_share: Their seconds over those of ``B4``: 0.2 is a fifth.
        wall_s: Mean recorded seconds, all phases one after the other.
        build_s: Of them.
        latency_s: Of them.
        energy_s: Of them.
        final_s: Of them.
        model_s: Mean seconds of models on this computer, not recorded.
        joules: Mean joules of the device.
        n_unknown: Choices whose energy the recording does not hold, left out.
    """

    way: str
    about: str
    n_outcomes: int
    saved: Mean | None = None
    best_saved: float | None = None
    slowdown: Mean | None = None
    excess: Mean | None = None
    versus_reference: Mean | None = None
    versus_all: Mean | None = None
    n_trials: float | None = None
    n_energies: float | None = None
    energy_share: float | None = None
    wall_s: float | None = None
    build_s: float | None = None
    latency_s: float | None = None
    energy_s: float | None = None
    final_s: float | None = None
    model_s: float | None = None
    joules: float | None = None
    n_unknown: int = 0


def rows_of(recording: Recording, outcomes: Sequence[SearchOutcome]) -> list[SearchRow]:
    """One row per way, in the order they were searched, and the libraries' after the first."""
    ways = list(dict.fromkeys(one.way for one in outcomes))
    rows = [_row(way, outcomes) for way in ways]
    return [*rows[:1], _peers_row(recording, outcomes), *rows[1:]]


def _row(way: str, outcomes: Sequence[SearchOutcome]) -> SearchRow:
    own = [one for one in outcomes if one.way == way]
    return SearchRow(
        way=way,
        about=WAYS[way].about,
        n_outcomes=len(own),
        saved=_mean([one.saved for one in own], 100.0),
        best_saved=_best_saved(own),
        slowdown=_mean([one.slowdown for one in own], 100.0),
        excess=_mean([one.excess for one in own], 100.0),
        versus_reference=_versus(own, outcomes, REFERENCE),
        versus_all=_versus(own, outcomes, "B4"),
        n_trials=_average([one.n_trials for one in own]),
        n_energies=_average([one.n_energies for one in own]),
        energy_share=_energy_share(own, outcomes),
        wall_s=_average([one.spent.wall_s for one in own]),
        build_s=_average([one.spent.build_s for one in own]),
        latency_s=_average([one.spent.latency_s for one in own]),
        energy_s=_average([one.spent.energy_s for one in own]),
        final_s=_average([one.spent.final_s for one in own]),
        model_s=_average([one.model_s for one in own]),
        joules=_average([one.spent.joules for one in own]),
        n_unknown=sum(one.saved is None for one in own),
    )


def _peers_row(recording: Recording, outcomes: Sequence[SearchOutcome]) -> SearchRow:
    """The libraries' kernel of least energy for each workload, beside the reference."""
    ours = [one for one in outcomes if one.way == REFERENCE and one.energy_mj]
    least = {
        task.task.workload.name: min(known)
        for task in recording.tasks
        if (known := [one.energy_mj for one in task.peers if one.energy_mj is not None])
    }
    pairs = [(least[one.workload], one.energy_mj) for one in ours if one.workload in least]
    return SearchRow(
        way="B2",
        about="vendor library" if least else "vendor library: not measured",
        n_outcomes=len(least),
        versus_reference=_mean([a / b - 1.0 for a, b in pairs if b], 100.0),
    )


def _versus(
    own: Sequence[SearchOutcome], outcomes: Sequence[SearchOutcome], other: str
) -> Mean | None:
    """Energy over another way's on the same workload with the same seed, per cent."""
    theirs = {(one.workload, one.seed): one.energy_mj for one in outcomes if one.way == other}
    pairs = [(one.energy_mj, theirs.get((one.workload, one.seed))) for one in own]
    return _mean([a / b - 1.0 for a, b in pairs if a and b], 100.0)


def _energy_share(own: Sequence[SearchOutcome], outcomes: Sequence[SearchOutcome]) -> float | None:
    every = [one for one in outcomes if one.way == "B4"]
    total_s = sum(one.spent.energy_s for one in every)
    return sum(one.spent.energy_s for one in own) / total_s if total_s else None


def _best_saved(own: Sequence[SearchOutcome]) -> float | None:
    means = [
        _average([one.saved for one in own if one.workload == name and one.saved is not None])
        for name in {one.workload for one in own}
    ]
    return max((100.0 * one for one in means if one is not None), default=None)


def _average(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean(values: Sequence[float | None], factor: float) -> Mean | None:
    known = np.array([value for value in values if value is not None]) * factor
    if not len(known):
        return None
    if len(known) == 1:
        return Mean(value=float(known[0]), ci95=None)
    from scipy.special import stdtrit

    error = float(np.std(known, ddof=1) / np.sqrt(len(known)))
    ci95 = float(stdtrit(len(known) - 1, 0.975)) * error
    return Mean(value=float(known.mean()), ci95=ci95)
