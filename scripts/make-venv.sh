#!/usr/bin/env bash
# Creates or refreshes .venv with the versions pinned in constraints.txt and this checkout, editable; then writes the
# stamp file $1. Called by the Makefile, which documents PYTHON and TORCH. Needs nothing but a Python with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=${1:-.venv/.installed}
cpu_index=https://download.pytorch.org/whl/cpu

say() { printf 'make-venv: %s\n' "$*"; }
fail() { printf 'make-venv: %s\n' "$*" >&2; exit 1; }

# Prints the first Python that is new enough; a version manager's name that leads nowhere is passed over.
find_python() {
    local name
    for name in ${PYTHON:-python3 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and ${PYTHON:-python3} is not; name one with \`make PYTHON=/path/to/python3.12\`."
}

# Which build of torch: the answer to TORCH, else by whether the kernel driver shows a GPU.
torch_build() {
    case ${TORCH:-} in
    cpu | default) echo "$TORCH" ;;
    "") if compgen -G '/dev/nvidia[0-9]*' >/dev/null; then echo default; else echo cpu; fi ;;
    *) fail "TORCH=$TORCH is unknown; it is cpu or default." ;;
    esac
}

reachable() {
    "$python" - "$1" <<'PY' >/dev/null 2>&1
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/torch/", method="HEAD"), timeout=5)
PY
}

python=$(find_python)
build=$(torch_build)
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot create virtual environments; install the missing module with \`apt install python3-venv\` and run make again."
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

# Errors alone are shown: the warnings are about the index's layout and about editable builds, and nobody can act on them.
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@" --quiet --quiet --constraint constraints.txt; }

say "installing the pinned versions (the first time this takes some minutes)"
pip install pip setuptools
if [ "$build" = default ]; then
    pip install torch
elif reachable "$cpu_index"; then
    pip install torch --extra-index-url "$cpu_index"
else
    say "$cpu_index cannot be reached, so torch comes from the default index; if that is a CUDA build it also runs on the CPU."
    pip install torch
fi
pip install --no-build-isolation --editable '.[workloads,dev]'

rm -f .venv/.installed*
touch "$stamp"
say "ready: $(.venv/bin/python --version), torch $(.venv/bin/python -c 'import torch; print(torch.__version__)')"
