"""Winners of searches that were measured again, over the fastest of the same trials."""

from __future__ import annotations

from dataclasses import dataclass

from effcompile import rounding
from effcompile.bench.winner_choice import Found, ratios_over
from effcompile.bench.winner_pairs import WinnerPair
from schedules.candidate import Candidate
from search.comparison import ratio_of
from search.final import Ratio
from search.ports import FinalMeasurement
from search.trial import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerRow:
    """A pair measured again; ratios are energy winner over latency winner, round by round.

    Attributes:
        workload: Its name.
        seed: Of the search.
        latency_us: Of the latency winner, in short bursts.
        energy_mj: Of the latency winner.
        power_w: Of the latency winner.
        energy: Ratio, ``None`` if something was not measured.
        sustained: Ratio of times under lasting load.
        burst: Ratio of times in short bursts.
        is_same: True if both are the same candidate or compile to the same code; nothing is
            saved then, and nothing need be measured.
        verdicts: Of the two energy measurements.
        error: Why there are no numbers.
    """

    workload: str
    seed: int
    latency_us: float | None = None
    energy_mj: float | None = None
    power_w: float | None = None
    energy: Ratio | None = None
    sustained: Ratio | None = None
    burst: Ratio | None = None
    is_same: bool = False
    verdicts: str = ""
    error: str = ""

    def cells(self) -> dict[str, object]:
        """For a table: ratios as changes in per cent."""
        return {
            "workload": self.workload,
            "seed": self.seed,
            "fastest, us": self.latency_us,
            "mJ": self.energy_mj,
            "W": self.power_w,
            "energy": _change(self.energy),
            "sustained": _change(self.sustained),
            "burst": _change(self.burst),
            "same": "yes" if self.is_same else "",
            "verdicts": self.verdicts,
            "error": self.error,
        }


def _change(ratio: Ratio | None) -> str:
    return "" if ratio is None else rounding.change(ratio)


def row_of_same(pair: WinnerPair) -> WinnerRow:
    """The row of a pair of a candidate with itself, which needs no measurement."""
    nothing = Ratio(median=1.0, low=1.0, high=1.0)
    return WinnerRow(
        workload=pair.workload,
        seed=pair.seed,
        energy=nothing,
        sustained=nothing,
        burst=nothing,
        is_same=True,
    )


def row_of(pair: WinnerPair, chosen: Candidate, found: Found) -> WinnerRow:
    """The row of a pair, from what was measured of the fastest and of the one chosen."""
    fast = found[pair.latency_winner.candidate_id]
    frugal = found[chosen.candidate_id]
    for one in (fast, frugal):
        if isinstance(one, Failure):
            return WinnerRow(
                workload=pair.workload,
                seed=pair.seed,
                error=f"{one.state.value}: {one.message[:200]}",
            )
    assert isinstance(fast, FinalMeasurement) and isinstance(frugal, FinalMeasurement)
    return WinnerRow(
        workload=pair.workload,
        seed=pair.seed,
        latency_us=fast.latency.latency_us,
        energy_mj=fast.energy.energy_mj,
        power_w=fast.energy.power_w,
        energy=ratio_of(ratios_over(frugal.energy_ratios, fast.energy_ratios)),
        sustained=ratio_of(ratios_over(frugal.sustained_ratios, fast.sustained_ratios)),
        burst=ratio_of(ratios_over(frugal.latency_ratios, fast.latency_ratios)),
        is_same=fast is frugal,
        verdicts=f"{fast.energy.verdict.value}, {frugal.energy.verdict.value}",
    )
