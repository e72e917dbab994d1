"""Settings of the search: what each one trades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

# The boosted trees multiply it by a thousand, into 64 bits.
LARGEST_SEED = 2**31 - 1

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]

EnergyPolicyName = Literal["top", "snr", "overlap", "worth", "measure_all", "never"]
EnergyModelName = Literal["power", "published", "constant", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How a run spends its trials. Part of the run's identity, except the budget.

    Attributes:
        n_trials: Trials over all tasks; more finds better kernels and takes longer.
        max_seconds: No new trial starts after this time in one session; ``None`` for no limit.
        seed: Same seed, same history: same proposals.
        strategy: ``evolutionary`` learns from measurements, ``random`` does not.
        task_order: ``saving`` gives the next round to the task that is expected to save most,
            ``even`` to the one that had the fewest, for tasks that matter each for itself.
        max_slowdown: Share of latency that may be given up for energy, 0.02 for 2 %.
        spaces: Names of the design spaces to search, where they cover a task; empty for all that
            may win there.
        round_size: Trials proposed together; small rounds learn sooner, large ones
            keep builders and device busy. 0 chooses from budget and tasks.
        population: Most candidates ranked by the models per generation; small rounds rank fewer.
        n_generations: Generations per round.
        random_share: Share of a round picked without the model.
        local_share: Share of a round that changes one decision of a candidate on the
            latency-energy front.
        evolve_by: ``latency`` breeds and proposes by predicted latency alone, and lets energy
            decide afterwards; ``energy`` also breeds around low predicted energy.
        batch_by: ``quota`` fills a round with the predicted fastest and a share of the
            predicted least energy, ``hypervolume`` with what is expected to widen the front.
        energy_band: Candidates within this share of the best latency are eligible for
            an energy measurement.
        energy_top: Most energy measurements per round.
        energy_random: Extra random eligible picks per round, for an unbiased model error.
        energy_policy: Who gets an energy measurement: ``top`` the predicted best, ``snr`` a
            share that falls while predictions are good, ``overlap`` those that may still
            beat the best, ``worth`` those whose expected gain is worth a window,
            ``measure_all`` every eligible one, ``never`` none after a warm-up.
        energy_snr: How ``snr`` judges predictions: ``centred`` on their mean, or ``raw``.
        energy_model: What predicts energy: ``power`` learns power and takes the measured
            latency, ``published`` learns the share of the best energy from features known
            before building (arXiv 2411.18873), ``constant`` and ``linear`` are the
            predictors that a model must beat.
        warm_start: Let energy predictions start from the models that are shipped for this kind
            of GPU or one like it, where there are any; nothing else knows more before the first
            window.
        energy_warmup: Candidates per task that ``never`` measures, and ``overlap`` and ``worth``
            measure before they trust predictions.
        n_finalists: Candidates per task that are measured again before one may win.
        n_final_rounds: Interleaved repetitions of that measurement.
    """

    n_trials: Positive = 256
    max_seconds: Annotated[float, Meta(gt=0)] | None = None
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED)] = 0
    strategy: Literal["evolutionary", "random"] = "evolutionary"
    task_order: Literal["saving", "even"] = "saving"
    max_slowdown: Annotated[float, Meta(ge=0, lt=1)] = 0.02
    spaces: tuple[str, ...] = ()
    round_size: Count = 0
    population: Positive = 128
    n_generations: Count = 2
    random_share: Share = 0.1
    local_share: Share = 0.1
    evolve_by: Literal["latency", "energy"] = "energy"
    batch_by: Literal["quota", "hypervolume"] = "quota"
    energy_band: Annotated[float, Meta(ge=0)] = 0.10
    energy_top: Count = 8
    energy_random: Count = 2
    energy_policy: EnergyPolicyName = "worth"
    energy_snr: Literal["centred", "raw"] = "centred"
    energy_model: EnergyModelName = "power"
    warm_start: bool = True
    energy_warmup: Count = 2
    n_finalists: Positive = 4
    n_final_rounds: Positive = 5
