#!/usr/bin/env bash
# Create the virtual environment with pinned packages: PYTHON=python3 VENV=.venv scripts/setup.sh
set -euo pipefail
PYTHON=${PYTHON:-python3} VENV=${VENV:-.venv}
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  { echo "effcompile needs Python 3.10 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }

has_torch() {  # an installed torch of 2.10 or newer is used as it is
  "$PYTHON" - <<'P' 2>/dev/null
import importlib.metadata, re, sys
major, minor = map(int, re.match(r"(\d+)\.(\d+)", importlib.metadata.version("torch")).groups())
sys.exit((major, minor) < (2, 10))
P
}
has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

# Byte code is made where it is imported: of ten thousand files, most never are.
install=("$VENV/bin/pip" install --quiet --no-compile)

echo "setting up $VENV with pinned packages: a few minutes the first time" >&2
extras=dev
if has_gpu; then extras=dev,cuda; fi
if has_torch; then
  "$PYTHON" -m venv --system-site-packages "$VENV"
else
  "$PYTHON" -m venv "$VENV"
  torch=$(grep -E '^torch==' constraints.txt)
  if has_gpu; then
    "${install[@]}" "$torch"
  else  # the CPU build; the default index carries CUDA builds of several gigabytes
    "${install[@]}" --retries 0 --timeout 15 --index-url "$TORCH_CPU_INDEX" "$torch" 2>/dev/null ||
      "${install[@]}" "$torch"
  fi
fi
if has_torch; then constraints=$(mktemp); grep -v '^torch==' constraints.txt > "$constraints"
else constraints=constraints.txt; fi
"${install[@]}" --constraint "$constraints" --editable ".[$extras]"
touch "$VENV/.ready"
