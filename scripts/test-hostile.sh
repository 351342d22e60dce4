#!/usr/bin/env bash
# The tests once more with everything against them: no numba (in child processes neither), PyTorch's kernels for the plainest
# processor, and a busy loop on every core. Tests that need numba are skipped with that reason.
#
#   scripts/test-hostile.sh [pytest arguments]
#
# Left out are the files that none of the three can touch: what the HTML page looks like, and Perfetto's engine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"
mkdir -p .dev
ln -sfn .. .dev/aisp_trace

export ATEN_CPU_CAPABILITY=default
export PYTHONPATH="$PWD/tests/without_numba${PYTHONPATH:+:$PYTHONPATH}"
python -P -c 'import numba' 2>/dev/null && { echo 'test-hostile: numba can still be imported' >&2; exit 2; }

# A loop ends with this script, however the script ends: told to, or because it finds nobody with this script's id.
loops=()
trap 'kill "${loops[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for _ in $(seq "$(nproc)"); do
    (trap - EXIT INT TERM; while kill -0 $$ 2>/dev/null; do :; done) &
    loops+=($!)
done

scripts/test.sh --ignore-glob='*/test_report_*.py' --ignore=tests/test_results_page.py \
    --ignore=tests/test_export_perfetto.py "$@"
