"""One family under one tool: processes, begun again behind a candidate that took one along."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.sanitizer.plans import Plan
from tests.sanitizer.reports import Outcome, report_of
from tests.sanitizer.tools import command, watched_output

PROCESS_S = 90.0
"""A watched process takes no longer; the candidate that it was at counts as unfinished."""
KEPT_CHARS = 60_000
FAULTY = "faulty"
"""In place of a family: kernels of which each tool must report its own."""


@dataclass(slots=True)
class Result:
    """One family under one tool.

    Attributes:
        plan: What was to be run.
        tool: The tool.
        outcomes: Of the candidates that were begun, by their number in the plan.
        troubles: What kept the tool from doing its work.
    """

    plan: Plan
    tool: str
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


class Watch:
    """Starts watched processes, until time is over.

    Args:
        raw_dir: Receives the output of every process.
        environment: Variables on top of this process's.
        seconds: Limit of all processes.
    """

    def __init__(self, raw_dir: Path, environment: Mapping[str, str], seconds: float) -> None:
        self._raw_dir, self._environment = raw_dir, environment
        self._deadline = time.monotonic() + seconds
        raw_dir.mkdir(parents=True, exist_ok=True)

    def faulty(self, cubin: Path, tool: str, slot: int) -> Result:
        """The kernel that the tool must report."""
        result = Result(Plan(family=FAULTY, runs=()), tool)
        self._once(result, ["tests.sanitizer.faulty", str(cubin), tool], slot)
        return result

    def family(self, plan: Plan, path: Path, tool: str, slot: int) -> Result:
        """All candidates of a plan, which lies at ``path``."""
        result, first = Result(plan, tool), 0
        while first < len(plan.runs):
            n_before = len(result.outcomes)
            self._once(result, ["tests.sanitizer.watched", str(path), str(first)], slot)
            if len(result.outcomes) == n_before:
                break
            first = max(result.outcomes) + 1
        return result

    def _once(self, result: Result, program: Sequence[str], slot: int) -> None:
        """One watched process, read into the result."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 1:
            result.troubles.append("no time left")
            return
        arguments = command(result.tool, slot, [sys.executable, "-m", *program])
        output = watched_output(arguments, self._environment, limit_s=min(PROCESS_S, left_s))
        report = report_of(output.text)
        result.outcomes |= report.outcomes
        result.troubles += [f"before the first candidate: {one}" for one in report.outside]
        if output.was_late:
            result.troubles.append(f"stopped after {output.seconds:.0f} s")
        elif report.n_summed is None or (report.n_summed > 0) != (report.n_findings > 0):
            result.troubles.append(f"the tool counted {report.n_summed} errors")
        name = f"{result.plan.family}-{result.tool}"
        (self._raw_dir / f"{name}-{program[-1]}.txt").write_text(output.text[:KEPT_CHARS])
        counted = f"{len(report.outcomes)} run, {report.n_findings} messages"
        say(f"{name}: {output.seconds:.1f} s, {counted}")


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
