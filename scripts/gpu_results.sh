#!/usr/bin/env bash
# Every figure of docs/results.md that needs a GPU, about half an hour on one H200 with 16 cores:
#   PYTHON=python3 bash scripts/gpu_results.sh OUT [demo|kernels|tuner ...]
# Each part writes OUT/<part>.json and OUT/<part>.log, so a part can be run alone and again.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} out=${1:?usage: gpu_results.sh OUT [PART ...]}; shift
work=$(mktemp -d); mkdir -p "$out"
parts=("$@"); [[ ${#parts[@]} -gt 0 ]] || parts=(demo kernels tuner)
effcompile() { "$PYTHON" -m effcompile "$@"; }

demo() {  # about 3 minutes
  effcompile export examples/transformer_block.py:build --out "$work/block.onnx" --save-inputs "$work"
  effcompile tune "$work/block.onnx" --effort quick --trials 120 --out "$work/block"
  effcompile build "$work/block" --out "$work/block.effc"
  effcompile verify "$work/block.effc" --against examples/transformer_block.py:build
  effcompile report "$work/block" --html "$out/demo.html" --json > "$out/demo.json"
  effcompile record "$work/block" --out "$out/block.effrec"
}

kernels() {  # about 2 minutes a case, most of it tuning, windows and Inductor
  effcompile bench kernels --family softmax --family merge --trials 48 --rounds 5 \
    --work "$work/kernels" --json > "$out/kernels.json"
}

tuner() {  # about 5 minutes, most of it the stock tuner
  for workload in softmax-4096x4096-float32 matmul-2048-float16; do
    effcompile bench tuner --workload "$workload" --trials 64 --work "$work/tuner" --json \
      > "$out/tuner-$workload.json"
  done
}

for part in "${parts[@]}"; do
  started=$SECONDS
  "$part" 2> "$out/$part.log"
  echo "$part: status $?, $((SECONDS - started)) s"
done
git rev-parse HEAD > "$out/commit" 2>/dev/null
nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader > "$out/gpu"
