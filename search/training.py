"""Models of a device from recordings of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cost_models.device_models import DeviceModels, Training
from cost_models.energy_rows import power_w
from cost_models.transfer import LEAST_WORKLOADS, TransferModel
from search.errors import BadRecording
from search.recorded_rows import RecordedRows, late_rows, recorded_rows
from search.recording import Recording


def power_model(parts: Sequence[RecordedRows]) -> TransferModel:
    """The power model that rows teach; unfitted if they are of too few workloads."""
    model = TransferModel("power")
    if parts:
        rows, energies_mj = late_rows(parts, lambda one: one.has_energy)
        model.fit(rows.late, power_w(energies_mj, rows.latency_us), rows.groups)
    return model


def latency_model(parts: Sequence[RecordedRows]) -> TransferModel:
    """The latency model that rows teach; unfitted if they are of too few workloads."""
    model = TransferModel("latency")
    if parts:
        rows, _ = late_rows(parts, lambda one: np.ones(len(one.rows), dtype=bool))
        model.fit(rows.late, rows.latency_us, rows.groups)
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
    return DeviceModels(training=training, power=power, latency=latency)
