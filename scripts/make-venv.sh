#!/usr/bin/env bash
# Creates or refreshes .venv with exactly the files of requirements.lock, torch in the version of constraints.txt, and this
# checkout, editable; then writes the stamp file $1. Called by the Makefile, which documents PYTHON and TORCH_INDEX. Needs nothing but a Python with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=${1:-.venv/.installed}

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

python=$(find_python)
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot create virtual environments; install the missing module with \`apt install python3-venv\` and run make again."
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

# Errors alone are shown: the warnings are about the index's layout and about editable builds, and nobody can act on them.
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@" --quiet --quiet; }

say "installing the pinned versions (the first time this takes some minutes)"
pip install --require-hashes --requirement requirements.lock
pip install torch --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
pip install --no-build-isolation --no-deps --editable .

rm -f .venv/.installed*
touch "$stamp"
say "ready: $(.venv/bin/python --version), torch $(.venv/bin/python -c 'import torch; print(torch.__version__)')"
