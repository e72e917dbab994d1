"""What a tool said about each candidate, from the common output of both processes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.sanitizer.marks import BEGIN, END

PREFIX = "========="
# Of the session, not of a kernel.
_FRAME = re.compile(
    r"COMPUTE-SANITIZER|(ERROR|RACECHECK|LEAK) SUMMARY|Target application|process didn't terminate|"
    r"No attachable process"
)
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")


@dataclass(slots=True)
class Outcome:
    """One candidate under one tool.

    Attributes:
        wrong: Why its result is wrong, or how its launch failed; empty if right.
        ended: Whether it came to its end.
        findings: The tool's messages, each with its lines.
    """

    wrong: str = ""
    ended: bool = False
    findings: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Right, and nothing to report."""
        return self.ended and not self.wrong and not self.findings


@dataclass(slots=True)
class Report:
    """One process under a tool.

    Attributes:
        outcomes: By the number of the candidate.
        outside: Findings before the first candidate.
        n_summed: How many errors the tool itself counted; ``None`` if it did not come to its end.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    n_summed: int | None = None

    @property
    def n_findings(self) -> int:
        """Messages in all."""
        return len(self.outside) + sum(len(one.findings) for one in self.outcomes.values())


def report_of(text: str) -> Report:
    """Reads the output of a watched process: messages belong to the candidate begun last."""
    report = Report()
    findings, of_session = report.outside, False
    for line in text.splitlines():
        if begun := BEGIN.match(line):
            findings = report.outcomes.setdefault(int(begun[1]), Outcome()).findings
        elif ended := END.match(line):
            outcome = report.outcomes[int(ended[1])]
            outcome.wrong, outcome.ended = ended[2], True
        elif line.startswith(PREFIX) and (message := line.removeprefix(PREFIX)).strip():
            if summary := _SUMMARY.search(message):
                report.n_summed = int(summary[1])
            # A message begins next to the prefix, and goes on further in.
            goes_on = message.startswith("  ")
            of_session = of_session if goes_on else bool(_FRAME.search(message))
            if not of_session:
                _add(message.strip(), findings, goes_on=goes_on)
    return report


def _add(line: str, findings: list[str], *, goes_on: bool) -> None:
    if goes_on and findings:
        findings[-1] += "\n" + line
    else:
        findings.append(line)
