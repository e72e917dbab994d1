#!/usr/bin/env bash
# Candidates of the standard workloads with latency and energy, and the libraries' kernels, for
# recordings; needs a GPU, and torch for the libraries:
#   PYTHON=python3 bash scripts/gpu_recordings.sh OUT SECONDS PEER_SECONDS [NAME ...]
# Afterwards, without one:
#   xz -d OUT/workloads.sqlite.xz
#   python3 -m effcompile record OUT/workloads.sqlite --out effcompile/recordings/h100-workloads.effrec \
#     --command "bash scripts/gpu_recordings.sh OUT SECONDS PEER_SECONDS NAME ..."
# It may be cut off at any moment: OUT/workloads.sqlite.xz is hardly older than a minute. With
# ENERGIES=120 it ends earlier, once every workload has as many; one takes about 50 s.
set -uo pipefail
cd "$(dirname "$0")/.."
usage="usage: gpu_recordings.sh OUT SECONDS PEER_SECONDS [NAME ...]"
PYTHON=${PYTHON:-python3} out=${1:?$usage} seconds=${2:?$usage} peer_seconds=${3:?$usage}; shift 3
work=${WORK:-$(mktemp -d)}; mkdir -p "$out"
copy=$work/workloads.sqlite
chosen=(); for name in "$@"; do chosen+=(--only "$name"); done

keep() {
  [[ -s $copy ]] || return 0
  "$PYTHON" - "$copy" "$out/workloads.sqlite.xz" <<'PYTHON'
import lzma, os, sys
source, target = sys.argv[1:]
with open(source, "rb") as file, lzma.open(target + ".part", "wb", preset=1) as packed:
    while piece := file.read(1 << 22):
        packed.write(piece)
os.replace(target + ".part", target)
PYTHON
}

(while sleep 45; do keep; done) & keeper=$!
"$PYTHON" -m effcompile bench workloads --out "$copy" --seconds "$seconds" --work "$work/run" \
  --meter "${METER:-nvml}" --target "${TARGET:-cuda}" ${ENERGIES:+--energies "$ENERGIES"} \
  "${chosen[@]}" > "$out/rows" 2> "$out/log"
echo "workloads: status $?, $SECONDS s"
if [[ $peer_seconds -gt 0 ]]; then
  timeout $((peer_seconds + 20)) "$PYTHON" -m effcompile bench peers "$work/run" --out "$copy" \
    --seconds "$peer_seconds" > "$out/peers" 2> "$out/peers.log"
  echo "peers: status $?, $SECONDS s"
fi
kill "$keeper" 2>/dev/null; wait "$keeper" 2>/dev/null
keep
for log in "$work"/run/work/logs/*.log; do tail -c 2000 "$log"; done > "$out/process-logs" 2>/dev/null
git rev-parse HEAD > "$out/commit" 2>/dev/null || true
cat "$out/rows" "$out/peers" 2>/dev/null; tail -5 "$out/log" "$out/peers.log" 2>/dev/null
