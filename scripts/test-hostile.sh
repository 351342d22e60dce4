#!/usr/bin/env bash
# The tests once more with everything against them: no numba (in child processes neither), PyTorch's kernels for the plainest
# processor, and a busy loop beside them. Tests that need numba are skipped with that reason.
#
#   scripts/test-hostile.sh [pytest arguments]
#
# Left out are the files that begin with finished numbers or with no numbers at all, so that none of the three can touch them: pages,
# exports, verdicts, documents, outputs, the command line's words, imports, packaging.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"
mkdir -p .dev
ln -sfn .. .dev/aisp_trace

export ATEN_CPU_CAPABILITY=default
export PYTHONPATH="$PWD/tests/without_numba${PYTHONPATH:+:$PYTHONPATH}"
python -P -c 'import numba' 2>/dev/null && { echo 'test-hostile: numba can still be imported' >&2; exit 2; }

# The loop ends with this script, however the script ends: told to, or because it finds nobody with this script's id.
(while kill -0 $$ 2>/dev/null; do :; done) &
loop=$!
trap 'kill "$loop" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

left_out=()
for name in report output export results_page expectations accept check bundle refusals between speedup \
    architecture content documents json_docs contracts releasing packaging dependencies typers recording_host cli_main list doctor; do
    left_out+=("--ignore-glob=*/test_${name}*.py")
done
scripts/test.sh "${left_out[@]}" "$@"
