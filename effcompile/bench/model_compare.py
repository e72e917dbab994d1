"""How well models predict the energy of fast candidates, judged on recordings.

Situations, with the same rows for every model:

``unseen``  Every other workload of the recording is known, this one not at all.
``16``      Likewise, and 16 of its energies, drawn at random; the others are judged. Models
            without a prior know those 16 alone. Numbers are means over several draws, since a
            regret is that of a single candidate.

Only candidates inside the low-latency band are judged: the others are never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cost_models.quality import ModelQuality, quality_of
from effcompile.bench.model_answers import N_KNOWN, answers_tuning, answers_unseen
from effcompile.bench.model_judging import Answers, Reachable, judged
from effcompile.bench.model_workloads import JudgedWorkload, workloads_of
from search.recording import Recording
from search.training import power_model

Situation = Literal["unseen", "16"]
UNSEEN = ("constant", "linear", "published", "power")
TUNING = ("constant", "linear", "published", "power", "power, warm")
N_DRAWS = 8
LEAST_JUDGED = 8
"""A workload with fewer measured candidates in the band says nothing of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadQuality:
    """One model on one workload, or on all of them.

    Attributes:
        workload: Its name, ``all`` for the mean over workloads by number of candidates.
        situation: See the module.
        n_band: Measured candidates inside the band.
        reachable: What a perfect model would reach, given the measuring noise.
        quality: What the model reached.
    """

    workload: str
    situation: Situation
    n_band: int
    reachable: Reachable
    quality: ModelQuality

    def cells(self) -> dict[str, object]:
        """For a table, one row per model and workload."""
        one = self.quality
        return {
            "workload": self.workload,
            "situation": self.situation,
            "model": one.model,
            "n": one.n_predictions,
            "spread %": self.reachable.spread_percent,
            "ceiling": self.reachable.correlation,
            "floor %": _percent(self.reachable.regret),
            "Spearman": one.spearman,
            "Kendall": one.kendall,
            "top-1 regret %": _percent(one.top1_regret),
            "top-5 regret %": _percent(one.top5_regret),
            "SNR dB": one.centred_snr_db,
            "MAPE %": _percent(one.mape),
            "coverage %": _percent(one.coverage),
        }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def bench_models(
    recording: Recording,
    *,
    band: float,
    teacher: Recording | None = None,
    n_draws: int = N_DRAWS,
    watch: Callable[[str], None] = lambda text: None,
) -> list[WorkloadQuality]:
    """Every model in both situations, each workload and all together.

    Args:
        recording: What they are judged on.
        band: Candidates within this share of a workload's least latency are judged.
        teacher: Another device's, in the place of the other workloads; what bears the name of
            a judged workload teaches nothing of it.
        n_draws: Of the energies that are known.
        watch: Told what is running.
    """
    every = workloads_of(recording)
    known = [one for one in every if one.n_judged(band) >= LEAST_JUDGED]
    teachers = workloads_of(teacher) if teacher else every
    others = {one.name: [other for other in teachers if other.name != one.name] for one in known}
    priors = {}
    for one in known:
        watch(f"power model without {one.name}")
        priors[one.name] = power_model([p for other in others[one.name] for p in other.parts])
    found: list[WorkloadQuality] = []
    for name in UNSEEN:
        watch(f"{name}, unseen")
        answers = {
            one.name: [answers_unseen(name, one, others[one.name], priors[one.name], band)]
            for one in known
        }
        found += _qualities(name, "unseen", known, answers, band)
    for name in TUNING:
        watch(f"{name}, after {N_KNOWN}")
        answers = {
            one.name: [
                answers_tuning(name, one, priors[one.name], band, draw) for draw in range(n_draws)
            ]
            for one in known
        }
        found += _qualities(name, "16", known, answers, band)
    return found


def _qualities(
    name: str,
    situation: Situation,
    workloads: Sequence[JudgedWorkload],
    answers: dict[str, list[Answers]],
    band: float,
) -> list[WorkloadQuality]:
    is_new = situation == "unseen"
    beside = {one.name: judged(one.name, answers, is_new=is_new) for one in workloads}
    found = []
    for one in workloads:
        found.append(
            WorkloadQuality(
                workload=one.name,
                situation=situation,
                n_band=len(answers[one.name][0].measured),
                reachable=one.reachable(band),
                quality=quality_of(name, beside[one.name]),
            )
        )
    return [
        *found,
        WorkloadQuality(
            workload="all",
            situation=situation,
            n_band=sum(one.n_band for one in found),
            reachable=_mean_reachable(found),
            quality=quality_of(name, [one for own in beside.values() for one in own]),
        ),
    ]


def _mean_reachable(found: Sequence[WorkloadQuality]) -> Reachable:
    """The means over workloads that those of models are compared with."""
    weights = [max(1, one.n_band) for one in found]
    spread, correlation, regret = (
        float(np.average([getattr(one.reachable, name) for one in found], weights=weights))
        for name in ("spread_percent", "correlation", "regret")
    )
    return Reachable(spread_percent=spread, correlation=correlation, regret=regret)
