#!/usr/bin/env bash
# Writes the generated files again, in their order, each by its own script (CONTRIBUTING.md says what each needs). Stops at the first
# that refuses. Answers of goldens.py are only compared: whoever changes a figure reads the difference, then writes them.
#
#   scripts/generated.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"

step() { printf -- '-- %s\n' "$*"; "$@"; }

schema() {
    aisp-trace expectations schema >build/expectations.schema.json
    cmp -s build/expectations.schema.json expectations/expectations.schema.json && { rm build/expectations.schema.json; return; }
    mv build/expectations.schema.json expectations/expectations.schema.json
    echo 'wrote expectations/expectations.schema.json'
}

mkdir -p build
step schema
step python -P scripts/contracts.py --write
step python -P scripts/commands.py --write
step python -P scripts/definitions.py --write
step python -P scripts/notebook.py --write
step python -P scripts/goldens.py --check
