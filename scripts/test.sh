#!/usr/bin/env bash
# The tests in two processes; a file's tests share one, since they share recordings. tests/conftest.py puts the longest first.
#
#   scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"

python -P -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --durations=40 --durations-min=3 "$@"
