"""Interleaved re-measurement: several builds in turn, round after round.

Drift of temperature and clocks then meets every build alike, and the ratio to the
first build, taken within one round, is free of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from effcompile.measure.statistics import median_with_ci95
from search.ports import FinalMeasurement
from search.trial import EnergyMeasurement, Failure, LatencyMeasurement


@dataclass(slots=True)
class Rounds:
    """What was measured of one build, one entry per round.

    Attributes:
        latencies: By round.
        energies: By round.
        failure: Why the build left the comparison.
    """

    latencies: dict[int, LatencyMeasurement] = field(default_factory=dict)
    energies: dict[int, EnergyMeasurement] = field(default_factory=dict)
    failure: Failure | None = None


Measured = tuple[LatencyMeasurement, EnergyMeasurement]


def interleave(
    n_builds: int, n_rounds: int, measure: Callable[[int], Measured | Failure]
) -> list[FinalMeasurement | Failure]:
    """Measure builds in turn, each round starting with another one.

    Args:
        n_builds: Builds, by position.
        n_rounds: Rounds.
        measure: Latency and energy of a build; a failure takes it out of later rounds.

    Returns:
        One entry per build, ratios taken to build 0.
    """
    table = [Rounds() for _ in range(n_builds)]
    for round_index in range(n_rounds):
        for offset in range(n_builds):
            index = (round_index + offset) % n_builds
            rounds = table[index]
            if rounds.failure is not None:
                continue
            measured = measure(index)
            if isinstance(measured, Failure):
                rounds.failure = measured
            else:
                rounds.latencies[round_index], rounds.energies[round_index] = measured
    return [_summary(rounds, table[0]) for rounds in table] if table else []


def _summary(rounds: Rounds, first: Rounds) -> FinalMeasurement | Failure:
    if rounds.failure is not None:
        return rounds.failure
    latencies = list(rounds.latencies.values())
    return FinalMeasurement(
        latency=combined_latency(latencies),
        energy=combined_energy(list(rounds.energies.values())),
        latency_ratios=tuple(
            latency.latency_us / first.latencies[index].latency_us
            for index, latency in rounds.latencies.items()
            if index in first.latencies
        ),
        energy_ratios=tuple(
            energy.steady_mj / base.steady_mj
            for index, energy in rounds.energies.items()
            if (base := first.energies.get(index)) is not None
            and energy.steady_mj is not None
            and base.steady_mj is not None
        ),
        sustained_ratios=tuple(
            energy.steady_latency_us / base.steady_latency_us
            for index, energy in rounds.energies.items()
            if (base := first.energies.get(index)) is not None
            and energy.steady_latency_us is not None
            and base.steady_latency_us is not None
        ),
    )


def combined_latency(latencies: Sequence[LatencyMeasurement]) -> LatencyMeasurement:
    """Median over rounds, with the interval between rounds."""
    if len(latencies) == 1:
        return latencies[0]
    median, ci95 = median_with_ci95([latency.latency_us for latency in latencies])
    return replace(latencies[0], latency_us=median, ci95_us=ci95, n_repeats=len(latencies))


def combined_energy(energies: Sequence[EnergyMeasurement]) -> EnergyMeasurement:
    """Median over the usable rounds; the first refusal if there are none."""
    usable = [energy for energy in energies if energy.energy_mj is not None]
    if not usable:
        return energies[0]
    spent_mj = sum(energy.window_energy_mj for energy in energies)
    n_steps = sum(energy.n_steps for energy in usable)
    values = [energy.energy_mj for energy in usable if energy.energy_mj is not None]
    if len(values) == 1:
        return replace(usable[0], window_energy_mj=spent_mj, n_steps=n_steps)
    median, ci95 = median_with_ci95(values)
    middle = min(usable, key=lambda energy: abs((energy.energy_mj or 0.0) - median))
    return replace(
        middle,
        energy_mj=median,
        ci95_mj=ci95,
        sustained_latency_us=_median([one.sustained_latency_us for one in usable]),
        power_w=_median([one.power_w for one in usable]),
        window_energy_mj=spent_mj,
        n_steps=n_steps,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
