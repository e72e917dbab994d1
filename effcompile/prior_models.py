"""Shipped models that a run begins with: to predict everything, or for a warm start."""

from __future__ import annotations

from dataclasses import replace

from cost_models.device_models import DeviceModels
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.models import models_of, require_models
from schedules.target import Target
from search.identity import PREDICTED_BY


def predicting(config: TuneConfig) -> TuneConfig:
    """Settings of a run that measures nothing: every prediction is free, so all are taken.

    Raises:
        UsageError: Something is asked for that no shipped model knows of.
    """
    if config.measure.cache != "hot":
        raise UsageError(
            "cannot predict for a cold cache: the shipped models were measured with the same "
            "buffers again and again. Leave --cache out, or measure on the device."
        )
    return replace(config, search=replace(config.search, energy_policy="measure_all"))


def known_models(target: Target, config: TuneConfig) -> DeviceModels | None:
    """Shipped models for a target: needed to predict, and where a search may start from."""
    if config.measure.source == "none":
        return require_models(target)
    wanted = config.search.warm_start and config.measure.cache == "hot"
    return models_of(target) if wanted else None


def origin_of(known: DeviceModels | None, config: TuneConfig) -> dict[str, str]:
    """What the identity says of the models a run begins with."""
    if known is None:
        return {}
    return {PREDICTED_BY if config.measure.source == "none" else "warm_start": known.label()}
