"""Dynamic updating: which share of the fast candidates gets a real energy measurement.

    good predictions in a round -> fewer measurements in the next   (share - step, >= floor)
    bad ones                    -> more                             (share + step, <= 1)
    predictions that broke      -> start again                      (drift)

The share is a pure function of past errors, so a resumed run finds the same one.

Source:
    arXiv 2411.18873 updates its model dynamically to save measurements; its exact rule
    was not available. Start, step, floor, the noise ceiling and the reset are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

SnrForm = Literal["centred", "raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatingRule:
    """Numbers of the rule.

    Attributes:
        form: ``centred`` compares the error with the spread of the measured values, ``raw``
            with the values themselves. Raw rewards a predictor of the mean wherever the
            spread is small: 26 dB at a spread of 5 %.
        start: Share of the first round.
        step: Change per round.
        floor: Least share.
        threshold_db: Ratio from which predictions count as good; 3 dB is R^2 of 0.5. With 10 dB
            (0.9) the share never fell on recordings of an H100: there the energies of fast
            candidates differ by 2 to 6 %, and windows scatter by 1 %.
        headroom_db: Measuring noise caps the ratio at a ceiling; never ask for more than
            this much below it, or the share would never fall.
        least_rows: Values judged together; a round with fewer borrows from the ones before.
        drift_sigma: Controls that miss by this many of the usual errors reset the share.
    """

    form: SnrForm = "centred"
    start: float = 1.0
    step: float = 0.2
    floor: float = 0.1
    threshold_db: float = 3.0
    headroom_db: float = 3.0
    least_rows: int = 8
    drift_sigma: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoundErrors:
    """Predictions of one round beside what was measured afterwards, one entry each.

    Attributes:
        measured: Any one unit, positive, float64, shape (n,).
        predicted: Made before training on the measurements.
        noise: Standard deviation of each measurement, nan where unknown.
        is_control: True where the pick was random.
    """

    measured: np.ndarray
    predicted: np.ndarray
    noise: np.ndarray
    is_control: np.ndarray


def measured_share(rounds: Sequence[RoundErrors], rule: UpdatingRule) -> float:
    """Share of the fast candidates to measure next.

    Args:
        rounds: Every round in which something was predicted and measured, in order.
        rule: Numbers of the rule.
    """
    share, since = rule.start, 0
    for i, one in enumerate(rounds):
        if has_drifted(rounds[since:i], one, rule):
            share, since = rule.start, i
            continue
        judged = _latest(rounds[since : i + 1], rule.least_rows)
        ratio_db = snr_db(judged, rule.form)
        if ratio_db is None or len(judged.measured) < rule.least_rows:
            continue
        if ratio_db >= threshold_db(judged, rule):
            share = max(rule.floor, share - rule.step)
        else:
            share = min(1.0, share + rule.step)
    # Steps of 0.2 must not leave 0.19999999999999996 behind.
    return round(share, 9)


def snr_db(errors: RoundErrors, form: SnrForm) -> float | None:
    """Signal over squared error in decibels; ``None`` without signal, infinite without error."""
    signal = _signal(errors, form)
    if signal == 0.0:
        return None
    misses = errors.measured - errors.predicted
    if form == "centred":
        # What all predictions of a task miss by alike changes no choice among them.
        misses = misses - misses.mean()
    noise = float(np.sum(misses**2))
    return float(10.0 * np.log10(signal / noise)) if noise > 0.0 else float("inf")


def threshold_db(errors: RoundErrors, rule: UpdatingRule) -> float:
    """What :func:`snr_db` must reach, given what measuring noise allows."""
    noise = errors.noise[np.isfinite(errors.noise)]
    signal = _signal(errors, rule.form)
    if len(noise) == 0 or not noise.any() or signal == 0.0:
        return rule.threshold_db
    # Noise is part of the measured spread too: without it nothing may be left.
    expected_error = float(np.mean(noise**2)) * len(errors.measured)
    ceiling_db = 10.0 * np.log10(signal / expected_error)
    return float(min(rule.threshold_db, ceiling_db - rule.headroom_db))


def has_drifted(earlier: Sequence[RoundErrors], now: RoundErrors, rule: UpdatingRule) -> bool:
    """True if the controls of a round miss far beyond the errors of the rounds before.

    Only random picks say so: those taken for a low prediction are expected to come out
    higher than predicted.
    """
    if not earlier or not now.is_control.any():
        return False
    before = np.concatenate([_relative_errors(one) for one in earlier])
    if len(before) < rule.least_rows:
        return False
    usual = float(np.sqrt(np.mean(before**2)))
    controls = _relative_errors(now)[now.is_control]
    # The mean of n controls scatters by usual / sqrt(n) if nothing changed.
    return bool(abs(controls.mean()) > rule.drift_sigma * usual / np.sqrt(len(controls)))


def _relative_errors(errors: RoundErrors) -> np.ndarray:
    return np.asarray((errors.measured - errors.predicted) / errors.measured)


def _signal(errors: RoundErrors, form: SnrForm) -> float:
    values = errors.measured - (errors.measured.mean() if form == "centred" else 0.0)
    return float(np.sum(values**2))


def _latest(rounds: Sequence[RoundErrors], n_rows: int) -> RoundErrors:
    """The last round, with as many before it as it takes to have ``n_rows`` values."""
    taken: list[RoundErrors] = []
    for one in reversed(rounds):
        taken.insert(0, one)
        if sum(len(each.measured) for each in taken) >= n_rows:
            break
    return RoundErrors(
        measured=np.concatenate([one.measured for one in taken]),
        predicted=np.concatenate([one.predicted for one in taken]),
        noise=np.concatenate([one.noise for one in taken]),
        is_control=np.concatenate([one.is_control for one in taken]),
    )
