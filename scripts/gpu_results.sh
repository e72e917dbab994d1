#!/usr/bin/env bash
# Every figure of docs/results.md that needs a GPU, some two hours on one H100 or H200 with 16 cores
# (kernels: 107 cases); recordings are made by scripts/gpu_recordings.sh.
#   PYTHON=python3 bash scripts/gpu_results.sh OUT [demo|kernels|tuner|meter|winners ...]
#   FAMILIES="gemv_dequant attention_decode" bash scripts/gpu_results.sh OUT kernels
# Each part writes OUT/<part>.json and OUT/<part>.log, so a part can be run alone and again.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} out=${1:?usage: gpu_results.sh OUT [PART ...]}; shift
work=$(mktemp -d); mkdir -p "$out"
parts=("$@"); [[ ${#parts[@]} -gt 0 ]] || parts=(demo meter winners tuner kernels)
effcompile() { "$PYTHON" -m effcompile "$@"; }

demo() {  # about 3 minutes
  effcompile export examples/transformer_block.py:build --out "$work/block.onnx" --save-inputs "$work"
  effcompile tune "$work/block.onnx" --effort quick --trials 120 --out "$work/block"
  effcompile build "$work/block" --out "$work/block.effc"
  effcompile verify "$work/block.effc" --against examples/transformer_block.py:build
  effcompile report "$work/block" --html "$out/demo.html" --json > "$out/demo.json"
  effcompile record "$work/block" --out "$out/block.effrec"
}

kernels() {  # half a minute a case, more where Inductor or FlexAttention compile; rows come to kernels.log at once;
  # then hardware counters of what was found
  local all="softmax integer_softmax row_norm head_norm elementwise merge attention attention_masked headwise_attention
    attention_decode last_row_importance gemv_dequant gemm_dequant conv matmul"
  for family in ${FAMILIES:-$all}; do
    # Inductor's search for products takes longer than everything else together.
    local skipped=(); [[ $family == matmul ]] && skipped=(--skip-peer inductor)
    effcompile bench kernels --family "$family" --trials 48 --rounds 5 --together "${skipped[@]}" \
      --work "$work/kernels-$family" --json > "$out/kernels-$family.json"
    effcompile bench counters "$work/kernels-$family" --json > "$out/counters-$family.json"
  done
}

tuner() {  # about 5 minutes, most of it the stock tuner
  for workload in softmax-4096x4096-float32 matmul-2048-float16; do
    effcompile bench tuner --workload "$workload" --trials 64 --work "$work/tuner" --json \
      > "$out/tuner-$workload.json"
  done
}

meter() {  # about 4 minutes
  effcompile bench meter --rounds 20 --minutes 3 --work "$work/meter" --json > "$out/meter.json"
}

winners() {  # about 5 minutes
  effcompile bench winners --device "replay:${RECORDED:-h100}" --target cuda --work "$work/winners" --json \
    > "$out/winners.json"
}

for part in "${parts[@]}"; do
  started=$SECONDS
  "$part" 2> "$out/$part.log"
  echo "$part: status $?, $((SECONDS - started)) s"
done
git rev-parse HEAD > "$out/commit" 2>/dev/null
nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader > "$out/gpu"
