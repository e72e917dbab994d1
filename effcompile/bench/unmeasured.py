"""What choosing without any device is worth: every workload predicted from the others alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cost_models.quality import spearman, top_k_regret
from search.recorded_rows import RecordedRows, late_rows, recorded_rows
from search.recording import Recording
from search.training import latency_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """One workload whose candidates were compiled and ranked by predicted latency.

    Attributes:
        workload: Its name.
        n_candidates: Recorded ones, all of them ranked.
        spearman: Rank correlation of predicted and measured latency.
        pick_percent: How much slower the predicted fastest is than the fastest recorded.
        best_of_5_percent: Likewise for the best of the five predicted fastest.
        median_percent: Likewise for the median candidate: what a blind pick costs.
    """

    workload: str
    n_candidates: int
    spearman: float | None
    pick_percent: float | None
    best_of_5_percent: float | None
    median_percent: float


def bench_unmeasured(
    recording: Recording,
    *,
    teacher: Recording | None = None,
    watch: Callable[[str], None] = lambda text: None,
) -> list[Unmeasured]:
    """Leave one workload out, learn latency from the others, rank the one left out.

    Args:
        recording: At least four workloads; with fewer there is nothing to learn from.
        teacher: Another device's, in the place of the other workloads.
        watch: Told what is running.
    """
    parts = recorded_rows(recording)
    teachers = recorded_rows(teacher) if teacher else parts
    found = []
    for group in dict.fromkeys(int(one.rows.groups[0]) for one in parts):
        own = [one for one in parts if one.rows.groups[0] == group]
        others = [
            one
            for one in teachers
            if (one.name != own[0].name if teacher else one.rows.groups[0] != group)
        ]
        watch(f"latency model without {own[0].name}")
        model = latency_model(others)
        if model.is_fitted:
            rows, _ = late_rows(own, _every)
            predicted = model.predict(rows.late).mean
            found.append(_judged(own[0].name, rows.latency_us, predicted))
    return found


def _every(part: RecordedRows) -> np.ndarray:
    return np.ones(len(part.rows), dtype=bool)


def _judged(name: str, measured: np.ndarray, predicted: np.ndarray) -> Unmeasured:
    return Unmeasured(
        workload=name,
        n_candidates=len(measured),
        spearman=spearman(measured, predicted),
        pick_percent=_percent(top_k_regret(measured, predicted, k=1)),
        best_of_5_percent=_percent(top_k_regret(measured, predicted, k=5)),
        median_percent=100.0 * float(np.median(measured) / measured.min() - 1.0),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
