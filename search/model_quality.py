"""How good a run's energy predictions were, from what was stored before measuring."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cost_models.calibration import conformal_factor
from cost_models.quality import Judged, ModelQuality, quality_of
from search.energy_policy import ModelError
from search.energy_rounds import model_errors
from search.history import TaskHistory
from search.policy_overlap import COVERAGE


def model_quality(histories: Sequence[TaskHistory], *, model: str) -> tuple[ModelQuality, ...]:
    """The run's energy model, and beside it what constant power would have predicted.

    Both answer for the same measurements, each with what was known before them.

    Args:
        histories: Every task of the run.
        model: Name of the run's energy model.
    """
    return (
        quality_of(model, [_judged(model_errors(one)) for one in histories]),
        quality_of("constant", [_constant_power(one) for one in histories]),
    )


def _judged(errors: Sequence[ModelError]) -> Judged:
    return Judged(
        measured=np.array([one.measured_mj for one in errors]),
        predicted=np.array([one.predicted_mj for one in errors]),
        is_covered=np.array([_is_covered(one, errors) for one in errors]),
    )


def _is_covered(error: ModelError, errors: Sequence[ModelError]) -> float:
    """1 or 0; nan without a stated spread. Calibrated on the rounds before alone."""
    if not error.spread_mj:
        return math.nan
    before = [one for one in errors if one.round_index < error.round_index and one.spread_mj]
    factor = conformal_factor(
        np.array([one.measured_mj for one in before]),
        np.array([one.predicted_mj for one in before]),
        np.array([one.spread_mj for one in before], dtype=np.float64),
        coverage=COVERAGE,
    )
    return float(abs(error.measured_mj - error.predicted_mj) <= factor * error.spread_mj)


def _constant_power(history: TaskHistory) -> Judged:
    """The mean power of the task's earlier rounds, times each candidate's latency."""
    latency_us = {one.trial_id: one.latency_us for one in history.points()}
    known = [
        (one.round_index, one.measurement.steady_mj, latency_us[one.trial_id])
        for one in history.energy_records
        if one.measurement is not None
        and one.measurement.verdict.usable
        and one.measurement.steady_mj is not None
        and one.trial_id in latency_us
    ]
    measured, predicted = [], []
    for error in model_errors(history):
        before = [energy / time for index, energy, time in known if index < error.round_index]
        if before:
            measured.append(error.measured_mj)
            predicted.append(float(np.mean(before)) * latency_us[error.trial_id])
    return Judged(
        measured=np.array(measured),
        predicted=np.array(predicted),
        is_covered=np.full(len(measured), math.nan),
    )
