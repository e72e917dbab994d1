"""Compiled kernels of made-up workloads on a device whose time and power follow their work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cost_models.device_models import DeviceModels, Training
from cost_models.energy_rows import EnergyRows
from cost_models.features import compiler_features
from cost_models.transfer import TransferModel
from schedules.instruction_mix import InstructionMix
from schedules.stats import KernelResources, KernelStats
from schedules.target import known_target

TARGET = known_target("h200")


@dataclass(frozen=True)
class DeviceRows:
    stats: list[KernelStats]
    late: np.ndarray
    latency_us: np.ndarray
    power_w: np.ndarray
    groups: np.ndarray

    @property
    def energies_mj(self) -> np.ndarray:
        return self.power_w * self.latency_us * 1e-3

    def of(self, chosen: np.ndarray) -> DeviceRows:
        return DeviceRows(
            stats=[self.stats[i] for i in np.arange(len(self.stats))[chosen]],
            late=self.late[chosen],
            latency_us=self.latency_us[chosen],
            power_w=self.power_w[chosen],
            groups=self.groups[chosen],
        )

    def energy_rows(self) -> EnergyRows:
        n = len(self.latency_us)
        return EnergyRows(
            early=np.empty((n, 0), dtype=np.float32),
            late=self.late,
            latency_us=self.latency_us,
            groups=self.groups,
            flops=np.full(n, 1e9),
            unique_bytes=np.full(n, 1e6),
            least_mj=np.full(n, np.nan),
        )


def kernel(size: float, loads: float, shared: float) -> KernelStats:
    """One launch: ``size`` sets the work of a warp, the others how much of it is memory."""
    mix = InstructionMix(
        fp32=100.0 * size,
        integer=30.0 * size,
        global_load_bytes=512.0 * loads * size,
        shared_load_bytes=512.0 * shared * size,
    )
    resources = KernelResources(
        name="main", grid=(264, 1, 1), block=(256, 1, 1), registers_per_thread=64, mix=mix
    )
    return KernelStats(kernels=(resources,), code_bytes=4000, flops=1e6 * size, unique_bytes=100000)


def device_rows(n_workloads: int = 8, n_each: int = 24, *, seed: int = 0) -> DeviceRows:
    """Workloads of different size; inside one, candidates differ by their use of memory."""
    rng = np.random.default_rng(seed)
    stats, latencies, powers, groups = [], [], [], []
    for group in range(n_workloads):
        size = float(2.0 ** rng.uniform(2, 8))
        for _ in range(n_each):
            loads, shared = rng.uniform(1, 20, size=2).tolist()
            stats.append(kernel(size, loads, shared))
            latency_us = 2.0 + 0.02 * size * (3.0 + 0.2 * loads + 0.1 * shared)
            rate = size / latency_us
            powers.append(130.0 + rate * (40.0 + 12.0 * loads + 3.0 * shared))
            latencies.append(latency_us)
            groups.append(group)
    latency_us_all = np.array(latencies)
    late = np.array(
        [
            compiler_features(one, latency_us=latency, target=TARGET)
            for one, latency in zip(stats, latencies, strict=True)
        ],
        dtype=np.float32,
    )
    return DeviceRows(stats, late, latency_us_all, np.array(powers), np.array(groups))


def device_models(rows: DeviceRows | None = None) -> DeviceModels:
    rows = rows or device_rows()
    power, latency = TransferModel("power"), TransferModel("latency")
    power.fit(rows.late, rows.power_w, rows.groups, rows.latency_us)
    latency.fit(rows.late, rows.latency_us, rows.groups, rows.latency_us)
    training = Training(
        device=TARGET.name,
        arch=TARGET.arch,
        n_cores=TARGET.n_cores,
        workloads=tuple(f"w{i}" for i in np.unique(rows.groups)),
        n_timed=len(rows.late),
        n_metered=len(rows.late),
        recordings="0",
    )
    return DeviceModels(training=training, power=power, latency=latency)
