#!/usr/bin/env bash
# The main job on the device found (CUDA GPU, else this CPU): export, tune, build, check, run, report.
#   PYTHON=python3 OUT=runs/demo TRIALS=120 bash examples/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-runs/demo} TRIALS=${TRIALS:-120}
mkdir -p "$OUT"
step() { echo; echo "# $1"; shift; echo "\$ effcompile $*"; "$PYTHON" -m effcompile "$@"; }

step "What works on this computer" doctor || true
step "PyTorch to ONNX" \
  export examples/transformer_block.py:build --out "$OUT/block.onnx" --save-inputs "$OUT"
step "Search: $TRIALS schedules are built, checked and timed; Ctrl-C stops, the same command goes on" \
  tune "$OUT/block.onnx" --target auto --effort quick --trials "$TRIALS" --max-slowdown 2% --out "$OUT/run"
step "The best of every kernel in one file; the whole model is timed beside its default" \
  build "$OUT/run" --out "$OUT/block.effc"
step "Run it: no compiler needed any more" \
  run "$OUT/block.effc" --input "x=$OUT/x.npy" --output "$OUT/y.npy"
step "Same outputs as PyTorch?" verify "$OUT/block.effc" --against examples/transformer_block.py:build
step "Default against tuned" report "$OUT/run" --html "$OUT/report.html"
echo; echo "artifact: $OUT/block.effc   report page: $OUT/report.html"
