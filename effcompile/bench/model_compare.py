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
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cost_models.base import Prediction
from cost_models.baselines import ConstantPower, LinearEnergy
from cost_models.energy import EnergyModel, PowerModel
from cost_models.energy_rows import EnergyRows, stacked
from cost_models.published import PublishedEnergyModel
from cost_models.quality import ModelQuality, quality_of
from cost_models.transfer import TransferModel
from effcompile.bench.model_judging import Answers, Reachable, judged, reachable
from search.recorded_rows import RecordedRows, recorded_rows
from search.recording import Recording
from search.training import power_model

Situation = Literal["unseen", "16"]
UNSEEN = ("constant", "linear", "published", "power")
TUNING = ("constant", "linear", "published", "power", "power, warm")
N_KNOWN = 16
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Workload:
    """The rows of one workload with an energy, by space."""

    name: str
    parts: list[RecordedRows]

    @property
    def best_us(self) -> float:
        return min(float(one.rows.latency_us.min()) for one in self.parts)

    def measured(self) -> list[RecordedRows]:
        return [one.taken(one.has_energy) for one in self.parts]

    def n_judged(self, band: float) -> int:
        return sum(int(_in_band(one.rows, self, band).sum()) for one in self.measured())


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
    every = _workloads(recording)
    known = [one for one in every if one.n_judged(band) >= LEAST_JUDGED]
    teachers = _workloads(teacher) if teacher else every
    others = {one.name: [other for other in teachers if other.name != one.name] for one in known}
    priors = {}
    for one in known:
        watch(f"power model without {one.name}")
        priors[one.name] = power_model([p for other in others[one.name] for p in other.parts])
    found: list[WorkloadQuality] = []
    for name in UNSEEN:
        watch(f"{name}, unseen")
        answers = {
            one.name: [_unseen(name, one, others[one.name], priors[one.name], band)]
            for one in known
        }
        found += _qualities(name, "unseen", known, answers, band)
    for name in TUNING:
        watch(f"{name}, after {N_KNOWN}")
        answers = {
            one.name: [_tuning(name, one, priors[one.name], band, draw) for draw in range(n_draws)]
            for one in known
        }
        found += _qualities(name, "16", known, answers, band)
    return found


def _workloads(recording: Recording) -> list[_Workload]:
    by_task: dict[int, list[RecordedRows]] = {}
    for one in recorded_rows(recording):
        by_task.setdefault(int(one.rows.groups[0]), []).append(one)
    # Two tasks may bear one name; the rest of this module tells workloads apart by it.
    names = [parts[0].name for parts in by_task.values()]
    return [
        _Workload(
            name=parts[0].name
            if names.count(parts[0].name) == 1
            else f"{parts[0].name} {task + 1}",
            parts=parts,
        )
        for task, parts in by_task.items()
    ]


def _in_band(rows: EnergyRows, workload: _Workload, band: float) -> np.ndarray:
    return np.asarray(rows.latency_us <= workload.best_us * (1.0 + band))


def _new(name: str, prior: TransferModel | None) -> EnergyModel:
    makers: dict[str, Callable[[], EnergyModel]] = {
        "constant": ConstantPower,
        "linear": LinearEnergy,
        "published": PublishedEnergyModel,
        "power": PowerModel,
        "power, warm": lambda: PowerModel(prior=prior),
    }
    return makers[name]()


def _unseen(
    name: str,
    workload: _Workload,
    others: Sequence[_Workload],
    prior: TransferModel,
    band: float,
) -> Answers:
    known = [part for one in others for part in one.measured()]
    made = []
    for part in workload.measured():
        asked = part.taken(_in_band(part.rows, workload, band))
        if len(asked.rows):
            answer = _knowing_others(name, asked, known, prior).predict(asked.rows)
            made.append((asked, answer))
    return _answers(made)


def _knowing_others(
    name: str, asked: RecordedRows, others: Sequence[RecordedRows], prior: TransferModel
) -> EnergyModel:
    """A model that learnt from other workloads; constant power where that taught it nothing."""
    if name == "power" and prior.is_fitted:
        return PowerModel(prior=prior)
    known = list(others)
    if name == "published":  # its features mean something inside one space only
        shape = asked.space, asked.rows.early.shape[1]
        known = [one for one in others if (one.space, one.rows.early.shape[1]) == shape]
    model = _new("constant" if name == "power" else name, None)
    if known:
        rows, energies_mj = _joined(known, with_early=name == "published")
        model.fit(_with_least(rows, energies_mj), energies_mj)
    if not model.is_fitted:
        model = ConstantPower()
        model.fit(*_joined(others, with_early=False))
    return model


def _tuning(
    name: str, workload: _Workload, prior: TransferModel, band: float, draw: int
) -> Answers:
    rng = np.random.default_rng(draw)
    parts = [one.taken(rng.permutation(len(one.rows))) for one in workload.measured()]
    usable = prior if prior.is_fitted else None
    known, later = _split(parts)
    constant = ConstantPower()
    rows, energies_mj = _joined(known, with_early=False)
    constant.fit(rows, energies_mj)
    made = []
    for before, after in zip(known, later, strict=True):
        asked = after.taken(_in_band(after.rows, workload, band))
        if not len(asked.rows):
            continue
        model = _new(name, usable)
        if len(before.rows):
            model.fit(_with_least(before.rows, before.energy_mj), before.energy_mj)
        able = model if model.is_fitted else constant
        least = np.full(len(asked.rows), energies_mj.min())
        made.append((asked, able.predict(replace(asked.rows, least_mj=least))))
    return _answers(made)


def _split(parts: Sequence[RecordedRows]) -> tuple[list[RecordedRows], list[RecordedRows]]:
    """The first energies of a workload and the later ones, an equal share of every space."""
    n_rows = sum(len(one.rows) for one in parts)
    share = min(1.0, N_KNOWN / max(1, n_rows))
    ends = [round(share * len(one.rows)) for one in parts]
    return (
        [one.taken(np.arange(end)) for one, end in zip(parts, ends, strict=True)],
        [one.taken(np.arange(end, len(one.rows))) for one, end in zip(parts, ends, strict=True)],
    )


def _joined(parts: Sequence[RecordedRows], *, with_early: bool) -> tuple[EnergyRows, np.ndarray]:
    rows = [
        one.rows if with_early else replace(one.rows, early=one.rows.early[:, :0]) for one in parts
    ]
    return stacked(rows), np.concatenate([one.energy_mj for one in parts])


def _with_least(rows: EnergyRows, energies_mj: np.ndarray) -> EnergyRows:
    least = np.full(len(rows), np.nan)
    for group in np.unique(rows.groups):
        least[rows.groups == group] = energies_mj[rows.groups == group].min()
    return replace(rows, least_mj=least)


def _answers(made: Sequence[tuple[RecordedRows, Prediction]]) -> Answers:
    return Answers(
        measured=np.concatenate([part.energy_mj for part, _ in made] or [np.empty(0)]),
        predicted=np.concatenate([answer.mean for _, answer in made] or [np.empty(0)]),
        spread=np.concatenate([answer.spread for _, answer in made] or [np.empty(0)]),
    )


def _qualities(
    name: str,
    situation: Situation,
    workloads: Sequence[_Workload],
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
                reachable=_reachable(one, band),
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


def _reachable(workload: _Workload, band: float) -> Reachable:
    parts = [one.taken(_in_band(one.rows, workload, band)) for one in workload.measured()]
    return reachable(
        np.concatenate([one.energy_mj for one in parts]),
        np.concatenate([one.noise_mj for one in parts]),
    )
