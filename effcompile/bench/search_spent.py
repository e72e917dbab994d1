"""What a search on a recording would have spent on the device: seconds and joules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from effcompile.bench.replayed import Replayed
from search.config import SearchConfig
from search.recording import RecordedBinary, Recording
from search.replay import binaries_of
from search.stored import EnergyRecord
from search.trial import EnergyMeasurement, Trial

BUILD_PROCESSES = 16
"""Builds at a time: as many as the recorded host has cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds as they were recorded, and joules from recorded powers.

    Attributes:
        build_s: Compiler seconds over :data:`BUILD_PROCESSES`.
        latency_s: Checking and timing.
        energy_s: Energy windows while searching, with the load before each.
        final_s: Interleaved windows of finalists.
        joules: Of the device: energy windows at their power, the rest at idle.
    """

    build_s: float
    latency_s: float
    energy_s: float
    final_s: float
    joules: float

    @property
    def wall_s(self) -> float:
        """All of it, one after the other."""
        return self.build_s + self.latency_s + self.energy_s + self.final_s


def spent(recording: Recording, found: Replayed, config: SearchConfig) -> Spent:
    """Seconds and joules of one search."""
    binaries = binaries_of(recording)
    build_s = sum(one.build.build_s for one in found.trials if one.build) / BUILD_PROCESSES
    latency_s = sum(one.run_s for one in _run(found.trials, binaries))
    search = [one for one in found.energies if one.phase == "search"]
    final = [one for one in found.energies if one.phase == "final"]
    energy_s, search_j = _windows(recording, search)
    final_s, final_j = _windows(recording, final)
    n_rounds = config.n_final_rounds
    idle_s = build_s + latency_s
    return Spent(
        build_s=build_s,
        latency_s=latency_s,
        energy_s=energy_s,
        final_s=n_rounds * final_s,
        joules=search_j + n_rounds * final_j + idle_s * _idle_w(recording),
    )


def _run(
    trials: Iterable[Trial], binaries: dict[tuple[str, str], RecordedBinary]
) -> list[RecordedBinary]:
    """What was checked and timed; twins of a binary were not."""
    return [
        binaries[one.task_id, one.build.binary_id]
        for one in trials
        if one.build is not None and one.same_as is None
    ]


def _windows(recording: Recording, energies: Sequence[EnergyRecord]) -> tuple[float, float]:
    """Seconds and joules of the load of energy windows.

    A window that was asked for and that the recording does not hold counts like the mean of
    the others: on the device it would have been taken.
    """
    settle_ms = float(recording.settings.get("measure.settle_ms", 0.0))
    taken = [one.measurement for one in energies if one.measurement and one.measurement.window_ms]
    loads_s = [_load_ms(one, settle_ms) / 1000.0 for one in taken]
    joules = [
        load_s * one.window_energy_mj / one.window_ms
        for load_s, one in zip(loads_s, taken, strict=True)
    ]
    n_asked = sum(one.measurement is not None for one in energies)
    factor = n_asked / len(taken) if taken else 0.0
    return factor * sum(loads_s), factor * sum(joules)


def _load_ms(one: EnergyMeasurement, settle_ms: float) -> float:
    # Older recordings hold no length of the whole load.
    return one.load_ms or one.window_ms + settle_ms


def _idle_w(recording: Recording) -> float:
    known = [one.idle_hot_w for one in recording.meters if one.idle_hot_w is not None]
    return known[-1] if known else 0.0
