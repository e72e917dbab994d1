#!/usr/bin/env bash
# Candidates of every kernel family under compute-sanitizer (memcheck, racecheck, synccheck, initcheck), two minutes on
# one H100 with 16 cores. Prints a table; OUT/sanitizer.json has every message with the knobs of its candidate.
#   PYTHON=python3 bash scripts/gpu_sanitize.sh OUT [--family softmax] [--tool memcheck] [--each 3] [--seconds 600]
set -uo pipefail
out=$(realpath -m "${1:?usage: gpu_sanitize.sh OUT [OPTION ...]}"); shift
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m tests.sanitizer "$out" "$@"
