#!/usr/bin/env bash
# Kernels as the tests emulate them on this CPU, a thread for each CUDA thread, under a sanitizer of g++:
#   bash scripts/sanitize_emulated.sh thread     # races of threads, warps and blocks, copies and tensor cores of Hopper included
#   bash scripts/sanitize_emulated.sh address    # accesses outside of arguments and workspaces, undefined arithmetic
# Needs no GPU; ten minutes on two cores. Reports come to runs/sanitize-<which>/; the exit status is 0 only without any.
set -uo pipefail
cd "$(dirname "$0")/.."
which=${1:?usage: sanitize_emulated.sh thread|address [PYTEST OPTION ...]}; shift
declare -A library=([thread]=libtsan.so [address]=libasan.so)
declare -A flags=([thread]="-fsanitize=thread -g -O1" [address]="-fsanitize=address,undefined -g -O1")
out=runs/sanitize-$which; rm -rf "$out"; mkdir -p "$out"
options="log_path=$PWD/$out/report detect_leaks=0 halt_on_error=0 exitcode=0 history_size=4"
mapfile -t files < <(grep -lE "emulation import|host_library import" tests/schedules/test_*.py)
# Before everything else, with what throws; threads of BLAS are none of a kernel's.
preload="$(g++ -print-file-name="${library[$which]}") $(g++ -print-file-name=libstdc++.so)"
OPENBLAS_NUM_THREADS=1 EMULATION_FLAGS="${flags[$which]}" LD_PRELOAD=$preload \
  TSAN_OPTIONS=$options ASAN_OPTIONS=$options UBSAN_OPTIONS="$options print_stacktrace=1" \
  "${PYTHON:-.venv/bin/python}" -m pytest -q -p no:cacheprovider --timeout 600 "${files[@]}" "$@"
status=$?
reports=$(cat "$out"/report.* 2>/dev/null | grep -cE "^SUMMARY: |runtime error: ")
echo "$reports reports in $out"
[[ $status -eq 0 && $reports -eq 0 ]]
