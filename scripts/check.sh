#!/usr/bin/env bash
# The project's own checks: formatting, lint and types; with --tests the tests too. Stops at the first that fails.
#
#   scripts/check.sh [--tests [pytest arguments]]
#
# Runs in .venv (make creates it), or in the active environment where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"

# The repository root is the package, so a type checker needs one folder in which it is called by its name.
mkdir -p .dev
ln -sfn .. .dev/aisp_trace

step() { printf -- '-- %s\n' "$*"; "$@"; }

step ruff format --check .
step ruff check .
step mypy
if [ "${1:-}" = --tests ]; then
    shift
    step scripts/test.sh "$@"
elif [ $# -gt 0 ]; then
    printf 'check: unknown argument %s; only --tests is known.\n' "$1" >&2
    exit 2
fi
