"""Families and tools as a table, and everything that was found as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec

from tests.sanitizer.sanitizing import Settings
from tests.sanitizer.tools import version
from tests.sanitizer.watching import FAULTY, Result

KEPT_FINDINGS = 6
"""Messages that are written down of one candidate; their number always is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One family under one tool.

    Attributes:
        n_run: Candidates that came to their end.
        n_missing: Candidates that did not.
        n_reported: Candidates with messages of the tool.
        n_wrong: Candidates with a wrong result.
        troubles: What kept the tool from doing its work.
    """

    n_run: int
    n_missing: int
    n_reported: int
    n_wrong: int
    troubles: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Everything ran, was right, and the tool had nothing to say."""
        return not (self.n_missing or self.n_reported or self.n_wrong or self.troubles)

    def __str__(self) -> str:
        parts = [f"{self.n_reported} reported"] * bool(self.n_reported)
        parts += [f"{self.n_wrong} wrong"] * bool(self.n_wrong)
        parts += [f"{self.n_missing} not run"] * bool(self.n_missing)
        parts += ["trouble"] * bool(self.troubles and not parts)
        return ", ".join(parts) or "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One family.

    Attributes:
        family: Name of its space.
        n_candidates: Built.
        n_refused: Not built.
        cells: By tool.
    """

    family: str
    n_candidates: int
    n_refused: int
    cells: dict[str, Cell]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found; of the kernels with a fault, whether each was."""
        if self.family == FAULTY:
            return all(cell.n_reported == 1 for cell in self.cells.values())
        return not self.n_refused and all(cell.is_clean for cell in self.cells.values())


def rows_of(results: Sequence[Result]) -> list[Row]:
    """One row per family, in the order in which they were begun."""
    by_family: dict[str, list[Result]] = {}
    for result in results:
        by_family.setdefault(result.plan.family, []).append(result)
    return [
        Row(
            family=family,
            n_candidates=len(found[0].plan.runs),
            n_refused=len(found[0].plan.refused),
            cells={one.tool: _cell(one) for one in found},
        )
        for family, found in sorted(by_family.items())
    ]


def _cell(result: Result) -> Cell:
    outcomes = result.outcomes.values()
    n_run = sum(one.ended for one in outcomes)
    return Cell(
        n_run=n_run,
        n_missing=max(len(result.plan.runs), 1) - n_run,
        n_reported=sum(bool(one.findings) for one in outcomes),
        n_wrong=sum(bool(one.wrong) for one in outcomes),
        troubles=tuple(result.troubles),
    )


def table_of(rows: Sequence[Row], tools: Sequence[str]) -> str:
    """Rows as Markdown."""
    lines = [f"| family | candidates | {' | '.join(tools)} |", "| --- " * (len(tools) + 2) + "|"]
    for row in rows:
        built = str(row.n_candidates) + f" ({row.n_refused} not built)" * bool(row.n_refused)
        cells = [str(row.cells[tool]) if tool in row.cells else "not run" for tool in tools]
        lines.append(f"| `{row.family}` | {built} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_json(results: Sequence[Result], rows: Sequence[Row], settings: Settings) -> None:
    """The rows, and every candidate that is not clean with its knobs and the tool's words."""
    content = {
        "sanitizer": version(),
        "seed": settings.seed,
        "rows": [asdict(row) for row in rows],
        "found": [one for result in results for one in _found(result)],
        "refused": {one.plan.family: one.plan.refused for one in results if one.plan.refused},
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    (settings.out / "sanitizer.json").write_bytes(encoded)


def _found(result: Result) -> list[dict[str, object]]:
    return [
        {
            "family": result.plan.family,
            "tool": result.tool,
            "problem": result.plan.runs[index].problem if result.plan.runs else "",
            "decisions": result.plan.runs[index].decisions if result.plan.runs else "",
            "ended": outcome.ended,
            "wrong": outcome.wrong,
            "n_findings": len(outcome.findings),
            "findings": outcome.findings[:KEPT_FINDINGS],
        }
        for index, outcome in sorted(result.outcomes.items())
        if not outcome.is_clean
    ]
