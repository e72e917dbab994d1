"""What limits a kernel, by its counters: a row per kernel, one word for the limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from effcompile.bench.counters_csv import METRICS, ProfiledKernel

FULL_SHARE = 0.6
"""Of its peak from which on a unit is the limit; below it Nsight Compute, too, says latency."""

BUSY_SHARE = 0.75
"""Of the time in which the mean multiprocessor must have work; with less, launching is it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """What holds warps.

    Attributes:
        reason: Nsight Compute's name, for example ``long_scoreboard``.
        share: Of all samples of warps.
    """

    reason: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterRow:
    """One kernel of one entry point: medians over its launches; ``None`` is not counted here.

    Attributes:
        name: Case or entry point.
        kernel: Symbol of the device function.
        limit: ``dram``, ``tensor``, ``issue``, ``launch`` or ``latency``; see :func:`limit_of`.
        time_us: Of one launch, by itself, from cold caches.
        dram_read_bytes: Per launch.
        dram_write_bytes: Per launch; what stays in the second-level cache is not in it.
        dram_share: Both, of what the memory could have moved in that time.
        l2_hit_share: Of the second-level cache's sectors that were asked for.
        tensor_share: Of the time in which tensor cores worked, mean over multiprocessors.
        issue_share: Of issue slots that were used.
        sm_share: Of the time in which a multiprocessor had a warp, mean over them.
        occupancy_share: Of the warps that fit, while there was one.
        registers: Per thread.
        waves: Blocks over those that run at the same time.
        stalls: The two largest reasons why warps did not issue.
        n_samples: Samples of warps behind ``stalls``.
        n_launches: Launches behind the medians.
        error: Why there are no numbers.
    """

    name: str
    kernel: str = ""
    limit: str = ""
    time_us: float | None = None
    dram_read_bytes: float | None = None
    dram_write_bytes: float | None = None
    dram_share: float | None = None
    l2_hit_share: float | None = None
    tensor_share: float | None = None
    issue_share: float | None = None
    sm_share: float | None = None
    occupancy_share: float | None = None
    registers: float | None = None
    waves: float | None = None
    stalls: tuple[Stall, ...] = ()
    n_samples: int = 0
    n_launches: int = 0
    error: str = ""


def limit_of(shares: Mapping[str, float | None], sm_share: float | None) -> str:
    """One word for what limits a kernel.

    The unit that is busiest, if it is so for ``FULL_SHARE`` of its peak. Else ``launch`` if
    multiprocessors were without work for more than ``1 - BUSY_SHARE`` of the time: too few
    blocks, an uneven end, or a kernel about as short as its start. Else ``latency``: warps wait,
    and the stall reasons say for what, other full units (shared memory, caches) among them.

    Args:
        shares: Of their peaks, by unit; unknown ones cannot be the limit.
        sm_share: Of the time in which the mean multiprocessor had work.
    """
    known = {unit: share for unit, share in shares.items() if share is not None}
    busiest = max(known, key=lambda unit: known[unit], default="")
    if busiest and known[busiest] >= FULL_SHARE:
        return busiest
    return "launch" if sm_share is not None and sm_share < BUSY_SHARE else "latency"


def rows_of(name: str, kernels: Sequence[ProfiledKernel], n_launches: int) -> list[CounterRow]:
    """A row per kernel of an entry point.

    Args:
        name: Case or entry point.
        kernels: In the order of their launches.
        n_launches: How often the entry point was launched, each time with the same kernels.
    """
    n_kernels, rest = divmod(len(kernels), n_launches)
    if rest or not kernels:
        found = f"{len(kernels)} kernels in {n_launches} launches"
        return [CounterRow(name=name, error=f"cannot tell kernels apart: found {found}")]
    return [_row(name, kernels[index::n_kernels]) for index in range(n_kernels)]


def _row(name: str, launches: Sequence[ProfiledKernel]) -> CounterRow:
    middle = {key: _median([one.counters.get(key) for one in launches]) for key in METRICS}
    shares = {key: _over(value, 100) for key, value in middle.items()}
    samples = sum((Counter(one.n_samples) for one in launches), Counter[str]())
    units = {unit: shares[f"{unit}_percent"] for unit in ("dram", "tensor", "issue")}
    return CounterRow(
        name=name,
        kernel=launches[0].name,
        limit=limit_of(units, shares["sm_percent"]),
        time_us=_over(middle["time_ns"], 1000),
        dram_read_bytes=middle["dram_read_bytes"],
        dram_write_bytes=middle["dram_write_bytes"],
        dram_share=units["dram"],
        l2_hit_share=shares["l2_hit_percent"],
        tensor_share=units["tensor"],
        issue_share=units["issue"],
        sm_share=shares["sm_percent"],
        occupancy_share=shares["occupancy_percent"],
        registers=middle["registers"],
        waves=middle["waves"],
        stalls=_largest(samples),
        n_samples=samples.total(),
        n_launches=len(launches),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _over(value: float | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _largest(samples: Counter[str]) -> tuple[Stall, ...]:
    n_all = samples.total()
    held = Counter({reason: n for reason, n in samples.items() if reason != "selected" and n})
    return tuple(Stall(reason=reason, share=n / n_all) for reason, n in held.most_common(2))
