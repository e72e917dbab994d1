"""Candidates of every family under the tools of ``compute-sanitizer``, on the GPU that is here.

    python -m tests.sanitizer OUT [--seconds 110] [--family softmax] [--tool memcheck]

Prints a table of families and tools; OUT receives it with every message as ``sanitizer.json`` and
the raw output of every process. The exit status is 0 only if all were run and nothing was found.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.sanitizer.problems import PROBLEMS
from tests.sanitizer.sanitizing import Settings, sanitize
from tests.sanitizer.table import rows_of, table_of, write_json
from tests.sanitizer.tools import TOOLS, NoSanitizer


def settings(arguments: list[str]) -> Settings:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sanitizer", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=600.0, help="limit of the whole")
    parser.add_argument("--family", action="append", choices=PROBLEMS, help="all by default")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="all by default")
    parser.add_argument("--each", type=int, default=3, help="candidates per problem")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--target", default="cuda", help="a known GPU, where none is here")
    chosen = parser.parse_args(arguments)
    return Settings(
        out=chosen.out,
        families=tuple(chosen.family or PROBLEMS),
        tools=tuple(chosen.tool or TOOLS),
        seconds=chosen.seconds,
        n_each=chosen.each,
        seed=chosen.seed,
        target=chosen.target,
    )


def main(arguments: list[str]) -> int:
    """Run everything and print the table."""
    chosen = settings(arguments)
    try:
        results = sanitize(chosen)
    except NoSanitizer as problem:
        print(problem, file=sys.stderr)
        return 2
    rows = rows_of(results)
    write_json(results, rows, chosen)
    print(table_of(rows, chosen.tools))
    return 0 if all(row.is_clean for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
