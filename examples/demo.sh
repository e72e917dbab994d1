#!/usr/bin/env bash
# The main job on the device found (CUDA GPU, else this CPU): export, tune, build, check, run, report.
#   PYTHON=python3 OUT=runs/demo TRIALS=120 bash examples/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-runs/demo} TRIALS=${TRIALS:-120}
mkdir -p "$OUT"
step() { echo; echo "\$ effcompile $*"; "$PYTHON" -m effcompile "$@"; }

step doctor || true
step export examples/transformer_block.py:build --out "$OUT/block.onnx" --save-inputs "$OUT"
step tune "$OUT/block.onnx" --target auto --effort quick --trials "$TRIALS" --max-slowdown 2% --out "$OUT/run"
step build "$OUT/run" --out "$OUT/block.effc"
step run "$OUT/block.effc" --input "x=$OUT/x.npy" --output "$OUT/y.npy"
step verify "$OUT/block.effc" --against examples/transformer_block.py:build
step report "$OUT/run" --html "$OUT/report.html"
echo; echo "artifact: $OUT/block.effc   report: $OUT/report.html"
