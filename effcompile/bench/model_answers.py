"""What energy models answer about a workload, of which nothing or a little is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from cost_models.base import Prediction
from cost_models.baselines import ConstantPower, LinearEnergy
from cost_models.energy import EnergyModel, PowerModel
from cost_models.energy_rows import EnergyRows, stacked
from cost_models.published import PublishedEnergyModel
from cost_models.transfer import TransferModel
from effcompile.bench.model_judging import Answers
from effcompile.bench.model_workloads import JudgedWorkload
from search.recorded_rows import RecordedRows

N_KNOWN = 16
"""Energies of a workload that are known while it is tuned."""


def answers_unseen(
    name: str,
    workload: JudgedWorkload,
    others: Sequence[JudgedWorkload],
    prior: TransferModel,
    band: float,
) -> Answers:
    """Answers of a model that knows every other workload, and this one not at all.

    Args:
        name: Of the model, one of ``model_compare.UNSEEN``.
        workload: What it is asked about.
        others: What it learns from.
        prior: What they taught about power.
        band: Candidates within this share of the least latency are judged.
    """
    known = [part for one in others for part in one.measured()]
    made = []
    for asked in workload.judged(band):
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


def answers_tuning(
    name: str, workload: JudgedWorkload, prior: TransferModel, band: float, draw: int
) -> Answers:
    """Answers of a model that also knows some energies of the workload, about the others.

    Args:
        name: Of the model, one of ``model_compare.TUNING``.
        workload: What it is asked about.
        prior: What other workloads taught about power.
        band: Candidates within this share of the least latency are judged.
        draw: Seed of which energies are known.
    """
    rng = np.random.default_rng(draw)
    parts = [one.taken(rng.permutation(len(one.rows))) for one in workload.measured()]
    usable = prior if prior.is_fitted else None
    known, later = _split(parts)
    constant = ConstantPower()
    rows, energies_mj = _joined(known, with_early=False)
    constant.fit(rows, energies_mj)
    made = []
    for before, after in zip(known, later, strict=True):
        asked = workload.in_band(after, band)
        if not len(asked.rows):
            continue
        model = _new(name, usable)
        if len(before.rows):
            model.fit(_with_least(before.rows, before.energy_mj), before.energy_mj)
        able = model if model.is_fitted else constant
        least = np.full(len(asked.rows), energies_mj.min())
        made.append((asked, able.predict(replace(asked.rows, least_mj=least))))
    return _answers(made)


def _new(name: str, prior: TransferModel | None) -> EnergyModel:
    makers: dict[str, Callable[[], EnergyModel]] = {
        "constant": ConstantPower,
        "linear": LinearEnergy,
        "published": PublishedEnergyModel,
        "power": PowerModel,
        "power, warm": lambda: PowerModel(prior=prior),
    }
    return makers[name]()


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
