"""How the energy meter of this GPU behaves, in under 100 seconds: python scripts/gpu_meter_check.py

Prints the calibration, the gaps between launches of a tiny kernel by length and copies of
its graph, how power rises, how well windows of several lengths repeat for three kernels,
ratios to the anchor over the whole time, and the counter against instant power.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.bench.meter_kernels import CAPPED, MeterBench
from effcompile.measure.cuda_launches import CudaBatch, CudaLoad
from effcompile.measure.environment import detect_target
from effcompile.measure.look import IdleLoad, look
from effcompile.measure.windows import Experience, blocks_of, steps_of

BEGIN_S = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the start."""
    print(f"[{time.monotonic() - BEGIN_S:5.1f} s] {text}", flush=True)


def show_calibration(bench: MeterBench) -> None:
    """Every field of the meter's facts, and the cost of every call."""
    facts = bench.session.learn_meter(bench.anchor_library, reference=None, known=None)
    for name, value in asdict(facts).items():
        say(f"  {name} = {value:.5g}" if isinstance(value, float) else f"  {name} = {value}")
    for name, call in (
        ("counter_mj", bench.meter.counter_mj),
        ("power_w", bench.meter.power_w),
        ("memory_power_w", bench.meter.memory_power_w),
        ("state", bench.meter.state),
    ):
        say(f"  {name}: {_call_us(call):.0f} us a call")


def _call_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e6


def show_gaps(bench: MeterBench) -> None:
    """Tiny kernel: time per launch in one graph, and back to back with the meter's pauses."""
    for nodes in (250, 1000, 4000):
        for copies in (1, 2, 4):
            batch = CudaBatch(
                bench.device, bench.launches["tiny"], nodes, n_copies=copies, max_nodes=nodes
            )
            batch.run_us()
            burst_us = min(batch.run_us() for _ in range(3)) / batch.n_launches
            load = CudaLoad(bench.device, batch)
            advancing_s, end_s = 0.0, time.perf_counter() + 0.25
            while time.perf_counter() < end_s:
                begin = time.perf_counter()
                load.advance()
                advancing_s += time.perf_counter() - begin
                time.sleep(0.004)
            load.finish()
            load.advance()
            sustained_us = load.busy_us / max(1, load.n_launches)
            say(
                f"  {nodes} launches a graph, {copies} copies: one graph {burst_us:.3f} us, back "
                f"to back {sustained_us:.3f} us, host {advancing_s / 0.25:.0%} busy launching"
            )
            load.finish()


def show_rise(bench: MeterBench) -> None:
    """Power by the counter and by instant readings from the first moment of a load on."""
    for before, name in (("idle", "anchor"), ("anchor", "tiny"), ("idle", "tiny")):
        if before == "idle":
            look(IdleLoad(), bench.meter, 1.0, time.monotonic)
        _trace(bench, f"{before} -> {name}", name, 1.0)


def show_regulation(bench: MeterBench) -> None:
    """The same for a load at the power limit, from idle and a short pause after itself."""
    if CAPPED not in bench.launches:
        say("  no kernel here reaches the limit")
        return
    look(IdleLoad(), bench.meter, 1.0, time.monotonic)
    _trace(bench, "idle -> limit", CAPPED, 4.0)
    for pause_s in (0.05, 0.3):
        time.sleep(pause_s)
        _trace(bench, f"limit, {pause_s} s -> limit", CAPPED, 2.5)
    for window_ms in (300, 300, 300, 300, 1000, 1000):
        taken = bench.window(CAPPED, window_ms)
        say(
            f"  window {taken.window_ms:.0f} ms after {taken.load_ms - taken.window_ms:.0f}: "
            f"{taken.energy_mj} mJ, {taken.power_w} W, {taken.sustained_latency_us} us, "
            f"{taken.conditions.clock_mhz} MHz, {taken.conditions.throttle_reasons} "
            f"{taken.verdict.value} {taken.reason}"
        )


def _trace(bench: MeterBench, title: str, name: str, seconds: float) -> None:
    found = look(bench.session.load_of(bench.launches[name]), bench.meter, seconds, time.monotonic)
    start_s = found.readings[0].time_s
    blocks = blocks_of(steps_of(found.readings), Experience())
    powers = " ".join(
        f"{(block.first.time_s - start_s) * 1000:.0f}:{block.power_w:.1f}/"
        f"{block.latency_us or 0.0:.3f}"
        for block in blocks
    )
    changes = [found.instant_w[0]]
    for one in found.instant_w:
        if one[1] != changes[-1][1]:
            changes.append(one)
    instant = " ".join(f"{(at - start_s) * 1000:.0f}:{watts:.0f}" for at, watts in changes)
    say(f"  {title}, counter ms:W/us {powers}")
    say(f"  {title}, instant ms:W {instant}")


def show_repeatability(bench: MeterBench) -> None:
    """Five windows of each length: scatter, intervals, and the mean against one second."""
    for name in ("tiny", "copy", "matmul"):
        means: dict[int, float] = {}
        for window_ms in (1000, 500, 300):
            taken = [bench.window(name, window_ms) for _ in range(5)]
            good = [one for one in taken if one.energy_mj is not None]
            if not good:
                say(f"  {name} {window_ms} ms: {taken[0].verdict.value}: {taken[0].reason}")
                continue
            energies = np.array([one.energy_mj for one in good])
            means[window_ms] = float(energies.mean())
            say(
                f"  {name} {window_ms} ms: {means[window_ms]:.5g} mJ, scatter "
                f"{_share(energies):.2%}, interval {_mean(good, 'ci95_mj') / energies.mean():.2%}, "
                f"vs 1 s {means[window_ms] / means.get(1000, means[window_ms]) - 1:+.2%}, power "
                f"{_mean(good, 'power_w'):.1f} W {_share([one.power_w for one in good]):.2%}, "
                f"latency {_mean(good, 'sustained_latency_us'):.4g} us "
                f"{_share([one.sustained_latency_us for one in good]):.2%}, load "
                f"{_mean(good, 'load_ms'):.0f} ms, {good[-1].verdict.value} of {len(good)}/5, "
                f"{good[-1].conditions.temperature_c} C {good[-1].conditions.clock_mhz} MHz"
            )


def _mean(records: Sequence[Any], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in records]))


def _share(values: Any) -> float:
    return float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 else 0.0


def show_drift(bench: MeterBench) -> None:
    """Adaptive windows in turn with the anchor: energies, and ratios to the anchor."""
    names = ("anchor", "tiny", "copy", "matmul")
    taken: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(8):
        for name in names:
            taken[name].append(bench.window(name, 500.0, 0.01))
    fixed = [one.energy_mj for one in taken["anchor"]]
    for name in names:
        good = [
            (one, at) for one, at in zip(taken[name], fixed, strict=True) if one.energy_mj and at
        ]
        if len(good) > 1:
            say(
                f"  {name}: energy scatter {_share([one.energy_mj for one, _ in good]):.2%}, ratio "
                f"to anchor {_share([one.energy_mj / at for one, at in good]):.2%}, load "
                f"{_mean([one for one, _ in good], 'load_ms'):.0f} ms, window "
                f"{_mean([one for one, _ in good], 'window_ms'):.0f} ms"
            )
        else:
            say(f"  {name}: {taken[name][0].verdict.value}: {taken[name][0].reason}")
    say("  anchor mJ: " + " ".join("-" if one is None else f"{one:.5g}" for one in fixed))


def show_cross_check(bench: MeterBench) -> None:
    """Mean instant power over counter power, from the second block on."""
    for name in ("tiny", "anchor", "copy", "matmul"):
        found = look(bench.session.load_of(bench.launches[name]), bench.meter, 1.3, time.monotonic)
        steps = steps_of(found.readings)[2:]
        seconds = steps[-1].time_s - steps[0].time_s
        counter_w = (steps[-1].counter_mj - steps[0].counter_mj) / 1000 / seconds
        inside = [w for at, w in found.instant_w if steps[0].time_s <= at <= steps[-1].time_s]
        say(
            f"  {name}: counter {counter_w:.1f} W, instant "
            f"{np.mean(inside) if inside else float('nan'):.1f} W, memory {found.memory_w} W"
        )


def main() -> None:
    """Everything, in the order of importance."""
    with tempfile.TemporaryDirectory() as folder:
        target = detect_target("cuda")
        say(f"{target.name}")
        bench = MeterBench(target, Path(folder))
        for title, show in (
            ("at the power limit", show_regulation),
            ("calibration", show_calibration),
            ("gaps between launches", show_gaps),
            ("rise of power", show_rise),
            ("adaptive windows in turn", show_drift),
            ("counter against instant power", show_cross_check),
            ("windows by length", show_repeatability),
        ):
            say(title)
            try:
                show(bench)
            except Exception as error:  # one question without answer must not cost the others
                say(f"  failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
