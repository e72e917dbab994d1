"""Models of a device from recordings of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cost_models.boosting import BoostedEnsemble
from cost_models.dataset import Dataset
from cost_models.device_models import DeviceModels, SpaceKey, Training
from cost_models.energy_rows import power_w
from cost_models.latency import slowdown_prior
from cost_models.transfer import LEAST_WORKLOADS, TransferModel
from search.errors import BadRecording
from search.recorded_rows import RecordedRows, late_rows, recorded_rows
from search.recording import Recording


def power_model(parts: Sequence[RecordedRows]) -> TransferModel:
    """The power model that rows teach; unfitted if they are of too few workloads."""
    limits_w = {one.limit_w for one in parts if one.limit_w is not None}
    model = TransferModel("power", limit_w=min(limits_w, default=None))
    if parts:
        rows, energies_mj = late_rows(parts, lambda one: one.has_energy)
        power = power_w(energies_mj, rows.latency_us)
        model.fit(rows.late, power, rows.groups, rows.latency_us)
    return model


def latency_model(parts: Sequence[RecordedRows]) -> TransferModel:
    """The latency model that rows teach; unfitted if they are of too few workloads."""
    model = TransferModel("latency")
    if parts:
        rows, _ = late_rows(parts, lambda one: np.ones(len(one.rows), dtype=bool))
        model.fit(rows.late, rows.latency_us, rows.groups, rows.latency_us)
    return model


def train_models(recording: Recording, *, digest: str) -> DeviceModels:
    """Both models of the recorded device.

    Args:
        recording: What they learn from.
        digest: Content hash of its files.

    Raises:
        BadRecording: Too few workloads, or no energies.
    """
    parts = recorded_rows(recording)
    power, latency = power_model(parts), latency_model(parts)
    if not power.is_fitted or not latency.is_fitted:
        raise BadRecording(
            f"cannot train models from {len(recording.tasks)} recorded workloads: at least "
            f"{LEAST_WORKLOADS} with energies are needed. Name more recordings of the device."
        )
    target = recording.tasks[0].task.target
    training = Training(
        device=target.name,
        arch=target.arch,
        n_cores=target.n_cores,
        workloads=tuple(dict.fromkeys(one.name for one in parts)),
        n_timed=sum(len(one.rows) for one in parts),
        n_metered=sum(int(one.has_energy.sum()) for one in parts),
        recordings=digest,
    )
    return DeviceModels(
        training=training, power=power, latency=latency, slowdown=slowdown_priors(parts)
    )


def slowdown_priors(parts: Sequence[RecordedRows]) -> dict[SpaceKey, BoostedEnsemble]:
    """A prior for every design space that enough workloads were searched in."""
    by_space: dict[SpaceKey, list[RecordedRows]] = {}
    for one in parts:
        by_space.setdefault((one.space, one.rows.early.shape[1]), []).append(one)
    return {
        key: slowdown_prior(_dataset(found))
        for key, found in by_space.items()
        if len({int(one.rows.groups[0]) for one in found}) >= LEAST_WORKLOADS
    }


def _dataset(parts: Sequence[RecordedRows]) -> Dataset:
    return Dataset(
        features=np.concatenate([one.rows.early for one in parts]),
        values=np.concatenate([one.rows.latency_us for one in parts]),
        groups=np.concatenate([one.rows.groups for one in parts]),
    )
