#!/usr/bin/env bash
# Candidates of the standard workloads with latency and energy, for recordings; needs a GPU:
#   PYTHON=python3 bash scripts/gpu_recordings.sh OUT SECONDS [NAME ...]
# Afterwards, without one:
#   for one in OUT/*.sqlite; do
#     python3 -m effcompile record "$one" --out "effcompile/recordings/h200-$(basename "$one" .sqlite).effrec"
#   done
# It may be cut off at any moment and started again with the same OUT: see effcompile bench workloads.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} out=${1:?usage: gpu_recordings.sh OUT SECONDS [NAME ...]}
seconds=${2:?usage: gpu_recordings.sh OUT SECONDS [NAME ...]}; shift 2
mkdir -p "$out"
chosen=(); for name in "$@"; do chosen+=(--only "$name"); done
"$PYTHON" -m effcompile bench workloads --out "$out" --seconds "$seconds" --work "${WORK:-$(mktemp -d)}" \
  --meter nvml --target cuda "${chosen[@]}" 2> >(tee "$out/log" >&2)
git rev-parse HEAD > "$out/commit" 2>/dev/null || true
