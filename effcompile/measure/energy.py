"""Energy of one launch, from a counter that moves in steps.

Power is the counter's difference between two visible steps over the time between them;
energy per launch is that power times the time per launch over the same span. Everything
that decides about numbers is :func:`evaluate`, a pure function of what ``observation`` read.

What the numbers mean, and when they are refused: docs/measuring.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from effcompile.measure.energy_verdict import problem_of
from effcompile.measure.meters import NoMeter, conditions_of
from effcompile.measure.observation import Effort, Observation, observe
from effcompile.measure.power_limit import window_of
from effcompile.measure.windows import NO_EXPERIENCE, Experience, Reading, last_window, steps_of
from search.trial import Conditions, EnergyMeasurement, Verdict

__all__ = ["Effort", "Observation", "evaluate", "observe", "unmeasured"]


def evaluate(
    observation: Observation,
    *,
    meter: str,
    effort: Effort,
    experience: Experience = NO_EXPERIENCE,
    cache: str = "hot",
) -> EnergyMeasurement:
    """Energy per launch with its verdict.

    Args:
        observation: What was read.
        meter: Name of the meter.
        effort: What was asked for.
        experience: What is known of the meter.
        cache: ``hot`` or ``cold``.
    """
    conditions = Conditions(**conditions_of(observation.states))
    readings = observation.readings
    window, is_held = window_of(readings, experience, observation.states)
    window = window or last_window(readings, experience)
    problem = problem_of(observation, window, conditions, effort, is_held=is_held)
    if problem is not None:
        verdict, reason = problem
        return EnergyMeasurement(
            energy_mj=None,
            meter=meter,
            cache=cache,
            n_steps=len(steps_of(readings)),
            load_ms=_load_ms(readings),
            conditions=conditions,
            verdict=verdict,
            reason=reason,
        )
    assert window is not None  # Without one there is a problem.
    capped = is_held or "sw_power_cap" in conditions.throttle_reasons
    latency_us = window.latency_us
    return EnergyMeasurement(
        energy_mj=window.power_w * latency_us / 1000,
        ci95_mj=window.ci95_w * latency_us / 1000,
        power_w=window.power_w,
        sustained_latency_us=latency_us,
        window_ms=window.span_s * 1000,
        window_energy_mj=window.last.counter_mj - window.first.counter_mj,
        n_steps=window.n_steps,
        load_ms=_load_ms(readings),
        meter=meter,
        cache=cache,
        conditions=conditions,
        verdict=Verdict.POWER_CAPPED if capped else Verdict.OK,
        reason="the device was at its power limit." if capped else "",
    )


def _load_ms(readings: Sequence[Reading]) -> float:
    return (readings[-1].time_s - readings[0].time_s) * 1000 if readings else 0.0


def unmeasured(meter: NoMeter) -> EnergyMeasurement:
    """The record of an energy that nobody measured, with the reason."""
    return EnergyMeasurement(
        energy_mj=None,
        meter="none",
        verdict=Verdict.NO_PERMISSION if meter.denied else Verdict.UNMEASURED,
        reason=meter.reason,
    )
